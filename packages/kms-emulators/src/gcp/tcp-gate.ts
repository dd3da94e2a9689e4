import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** A door before a server whose connections can be cut: HTTP/2 servers give theirs to nobody. */
export interface TcpGate {
  readonly port: number
  /** Connections that are open now. */
  connections(): number
  /** Cuts all open connections; new ones are welcome. */
  cut(): void
  close(): Promise<void>
}

export async function openGate(port: number, innerPort: number): Promise<TcpGate> {
  const open = new Set<Socket>()
  const server = createServer({ noDelay: true }, (outer) => {
    const inner = connect({ port: innerPort, host: '127.0.0.1', noDelay: true })
    for (const [from, to] of [
      [outer, inner],
      [inner, outer],
    ] as const) {
      open.add(from)
      from.on('error', () => to.destroy()).on('close', () => (open.delete(from), to.destroy()))
      from.pipe(to)
    }
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  const cut = () => {
    for (const socket of open) socket.resetAndDestroy()
  }
  return {
    port: (server.address() as AddressInfo).port, // listening on TCP
    connections: () => open.size / 2,
    cut,
    async close() {
      cut()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
