// A server on loopback that keeps whatever it gets: a webhook's receiver, a collector of traces.
import http from 'node:http';

export class Receiver {
  /** `{path, headers, body, at}`, oldest first. */
  got = [];

  /** `answer(request, earlier)` says the status, or nothing for no answer at all; `earlier` is how often that path was called before. */
  static async start(answer = () => 204) {
    const receiver = new Receiver();
    receiver.server = http.createServer((request, response) => {
      const parts = [];
      request.on('data', (data) => parts.push(data));
      request.on('end', () => {
        const earlier = receiver.of(request.url).length;
        receiver.got.push({ path: request.url, headers: request.headers, body: Buffer.concat(parts).toString(), at: performance.now() });
        const status = answer(request, earlier);
        if (status === undefined) return;
        // A long body, which nobody is to read, and a place to be sent on to.
        response.writeHead(status, status === 302 ? { location: '/204/elsewhere' } : {}).end(status === 204 ? undefined : 'x'.repeat(100_000));
      });
    });
    await new Promise((resolve) => receiver.server.listen(0, '127.0.0.1', resolve));
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}`;
    return receiver;
  }

  of(path) {
    return this.got.filter((one) => one.path === path);
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
