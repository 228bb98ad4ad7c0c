// What the platform sees. Around what Rust made: a workspace's object as a class that may be called by its methods, which
// the platform allows only where a class extends its own, and a way in that makes no object and no proxies for each request.
import { DurableObject } from "cloudflare:workers";
import Entry, { Workspace as Inner } from "gateway";

export * from "gateway";

// The crate's own record of whether the module broke down.
const state = globalThis.__worker_init_state;
const { fetch, scheduled } = Entry.prototype;

export default {
  fetch(request, env, ctx) {
    // After a breakdown the crate's way in makes the module anew.
    if (state.criticalError) return new Entry(ctx, env).fetch(request);
    return fetch.call({ env, ctx }, request);
  },
  scheduled(event, env, ctx) {
    if (state.criticalError) return new Entry(ctx, env).scheduled(event);
    return scheduled.call({ env, ctx }, event);
  },
};

export class Workspace extends DurableObject {
  constructor(state, env) {
    super(state, env);
    this.inner = new Inner(state, env);
  }
  command(body) {
    return this.inner.command(body);
  }
  fetch(request) {
    return this.inner.fetch(request);
  }
  alarm() {
    return this.inner.alarm();
  }
}
