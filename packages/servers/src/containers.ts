import type { ContainerRuntimeClient } from 'testcontainers'
import { say } from './say.ts'

/** The label by which an image says that it holds the DocumentDB engine: `fieldseal.engine=documentdb`. */
const ENGINE_LABEL = 'fieldseal.engine'

/** @returns undefined when no Docker engine, or one compatible with it, answers */
export async function containerRuntime(): Promise<ContainerRuntimeClient | undefined> {
  // Loaded only here: most starts need none of it.
  const { getContainerRuntimeClient } = await import('testcontainers')
  try {
    return await getContainerRuntimeClient()
  } catch {
    return undefined
  }
}

/** Makes an image available, saying so when that takes a download. @returns the engine that its label names */
export async function provideImage(runtime: ContainerRuntimeClient, name: string): Promise<string | undefined> {
  const { ImageName } = await import('testcontainers')
  const image = ImageName.fromString(name)
  if (!(await runtime.image.exists(image))) {
    say(`pulling ${name}`)
    await runtime.image.pull(image)
  }
  // An image without labels has null there, whatever its type says.
  const labels = (await runtime.image.inspect(image)).Config.Labels as Record<string, string> | null
  return labels?.[ENGINE_LABEL]
}
