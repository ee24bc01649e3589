// Slow clients as a process of their own: node slow_clients.ts <port> <how many>. Writes a line of JSON, [connected, closed by the server], ten times a second.
import { connect, type Socket } from 'node:net';

const [port, many] = process.argv.slice(2).map(Number) as [number, number];
const body = '{"user":{"user_id":"u1","age":41,"likes":[]},"context":{"hour":7},"time":9000,"history":[],"candidates":[{"item":9,"price":1.5}]}';
const head = `POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length + 1000}\r\nx: ${'y'.repeat(2000)}\r\n\r\n`;
/** What a socket says in all: nothing, a head that never ends, a body that never ends; the last asks much and reads nothing. */
const kinds = ['', head.slice(0, 1500), `${head}${body}`, 'GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(100)];
const dripping: { socket: Socket; text: string; at: number }[] = [];
let [connected, closed] = [0, 0];

for (let i = 0; i < many; ++i) {
  const kind = i % 500 === 0 ? 3 : i % 3;
  const text = kinds[kind]!;
  const socket = connect(port, '127.0.0.1', () => {
    ++connected;
    if (kind === 3) {
      socket.pause();
      socket.write(text);
    } else if (kind > 0) {
      const at = kind === 2 ? head.length : 30;
      socket.write(text.slice(0, at));
      dripping.push({ socket, text, at });
    }
  });
  if (kind !== 3) socket.resume();
  socket.on('error', () => undefined).once('close', () => { ++closed; });
  if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 5));
}
/** Each a byte about once a second, not all at the same moment. */
let turn = 0;
setInterval(() => {
  for (let i = turn++ % 20; i < dripping.length; i += 20) {
    const drip = dripping[i]!;
    if (drip.socket.writable) drip.socket.write(drip.text[drip.at++ % drip.text.length]!);
  }
}, 50);
setInterval(() => { process.stdout.write(`${JSON.stringify([connected, closed])}\n`); }, 100);
