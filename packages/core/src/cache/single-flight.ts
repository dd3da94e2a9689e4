/** One run per key however many callers wait; a finished run is forgotten. */
export interface SingleFlight<V> {
  run(key: string, work: () => Promise<V>): Promise<V>
  has(key: string): boolean
}

export function createSingleFlight<V>(): SingleFlight<V> {
  const flights = new Map<string, Promise<V>>()
  return {
    run(key, work) {
      const running = flights.get(key)
      if (running !== undefined) return running
      const flight = (async () => work())().finally(() => flights.delete(key))
      flights.set(key, flight)
      return flight
    },
    has: (key) => flights.has(key),
  }
}
