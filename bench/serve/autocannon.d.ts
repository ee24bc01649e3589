/** What this bench uses of autocannon, which brings no types. */
declare module 'autocannon' {
  import type { EventEmitter } from 'node:events';
  interface Request { method: string; path: string; headers: Record<string, string>; body?: string; setupRequest?: (request: Request, context: object) => Request }
  interface Options { url: string; connections: number; duration: number; overallRate?: number; timeout?: number; requests: readonly Request[] }
  interface Result { errors: number; timeouts: number }
  interface Running extends EventEmitter, PromiseLike<Result> { on(event: 'response', listener: (client: object, status: number, bytes: number, milliseconds: number) => void): this }
  export default function autocannon(options: Options): Running;
}
