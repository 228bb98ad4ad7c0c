// `node scripts/run.mjs SCRIPT [ARGUMENTS]`: sets up the npm packages, then runs the script under Node 22.
import path from 'node:path';
import { Stop, main } from './lib.mjs';
import { handOver, node22, setup } from './setup.mjs';

await main(async () => {
  const [script, ...args] = process.argv.slice(2);
  if (!script) throw new Stop('usage: node scripts/run.mjs SCRIPT [ARGUMENTS]');
  await setup({ wasm: false });
  process.exitCode = await handOver(node22(), [path.resolve(script), ...args]);
});
