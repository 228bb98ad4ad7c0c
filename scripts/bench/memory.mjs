// What an isolate holds, by workerd's inspector: V8's own heap, and the buffers outside of it; not wasm's memory.
const EVERY_MS = 10;

/** The inspector's address of the Worker's own isolate. */
export async function isolateOf(port) {
  const list = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
  const main = list.find(({ webSocketDebuggerUrl }) => webSocketDebuggerUrl.endsWith('/main') || webSocketDebuggerUrl.includes('/core:user:'));
  return main.webSocketDebuggerUrl;
}

/** Runs `work` and looks at the isolate at `url` meanwhile, as often as it answers. Bytes at the moment that had most of them. */
export async function whileWatched(url, work) {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`no inspector at ${url}`));
  });
  const waiting = new Map();
  socket.onmessage = ({ data }) => {
    const { id, result } = JSON.parse(data);
    waiting.get(id)?.(result);
    waiting.delete(id);
  };
  let id = 0;
  const look = () => new Promise((resolve) => {
    waiting.set(++id, resolve);
    socket.send(JSON.stringify({ id, method: 'Runtime.getHeapUsage' }));
  });
  const of = ({ usedSize, backingStorageSize = 0, embedderHeapUsedSize = 0 }) => ({ heap: usedSize + embedderHeapUsedSize, buffers: backingStorageSize, most: usedSize + embedderHeapUsedSize + backingStorageSize });
  let peak = of(await look());
  const before = peak.most;
  let looks = 1;
  let isOver = false;
  const watch = (async () => {
    while (!isOver) {
      const now = of(await look());
      looks += 1;
      if (now.most > peak.most) peak = now;
      await new Promise((resolve) => { setTimeout(resolve, EVERY_MS); });
    }
  })();
  try {
    const result = await work();
    return { ...peak, before, looks, result };
  } finally {
    isOver = true;
    await watch;
    socket.close();
  }
}
