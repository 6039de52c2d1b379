// What one would write instead of a gateway and a service: one process, HTTP/1.1, a key that is looked up, and the answer as the
// string that the cache has. No framework, no deadline, no limit, no trace: a peer that is hard to beat.
import { createServer } from "node:http";

const [port, size, ...keys] = process.argv.slice(2);
const answers = new Map(keys.map((key) => [key, "x".repeat(Number(size))]));

createServer({ keepAlive: true }, (request, response) => {
  const answer = answers.get(request.headers.authorization);
  if (answer === undefined) {
    response.writeHead(401).end();
    return;
  }
  response.writeHead(200, { "content-type": "application/json", "content-length": answer.length });
  response.end(answer);
}).listen(Number(port), "127.0.0.1");
