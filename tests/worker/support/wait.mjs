// Waiting that says what it waited for.
import { setTimeout as sleep } from 'node:timers/promises';

const say = (what) => (typeof what === 'function' ? what() : what);

/** The promise's result, or an error that says `what` after `ms` milliseconds. */
export async function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(say(what))), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Tries again and again until `body` returns something true, and returns that. An assertion that fails counts as not yet. */
export async function eventually(body, what, { ms = 5000, pause = 20 } = {}) {
  const until = performance.now() + ms;
  for (let last; ; await sleep(pause)) {
    try {
      last = undefined;
      const value = await body();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) throw new Error(`not within ${ms} ms: ${say(what)}${last ? `; ${last.message}` : ''}`, { cause: last });
  }
}

export { sleep };
