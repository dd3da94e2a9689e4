import { AsyncLocalStorage } from 'node:async_hooks'
import type { OperationContext, TenantContext } from './tenant-context.ts'

/**
 * The caller's context, also where a query runs elsewhere than it was created: ORMs make further queries while one
 * runs (relations, populated paths), and those belong to the first one's context.
 */
export interface ContextScope {
  capture(): OperationContext | undefined
  run<R>(context: OperationContext | undefined, fn: () => R): R
}

interface Frame {
  readonly context: OperationContext
  /** What the caller's context was outside; a different one means that somebody called `runAs` inside. */
  readonly outside: OperationContext | undefined
}

export function createContextScope(host: Pick<TenantContext, 'captureIfAny'>): ContextScope {
  const frames = new AsyncLocalStorage<Frame>()
  const capture = () => {
    const now = host.captureIfAny()
    const frame = frames.getStore()
    return frame !== undefined && frame.outside === now ? frame.context : now
  }
  return {
    capture,
    run(context, fn) {
      if (context === undefined || capture() === context) return fn()
      return frames.run({ context, outside: host.captureIfAny() }, fn)
    },
  }
}
