// Formatting and lints, native and as the Worker sees the crate.
import { main, run, say } from './lib.mjs';
import { setup } from './setup.mjs';

await main(async () => {
  await setup({ npm: false, lint: true });
  for (const args of [
    ['fmt', '--all', '--check'],
    ['clippy', '--workspace', '--all-targets', '--', '-D', 'warnings'],
    ['clippy', '--workspace', '--target', 'wasm32-unknown-unknown', '--lib', '--', '-D', 'warnings'],
  ]) {
    say(`cargo ${args.join(' ')}`);
    await run('cargo', args);
  }
});
