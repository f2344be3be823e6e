// One cell in a process of its own: `cell.js PEER CASE NOTES`. The parent says when and how long; so it measures.

import { cell } from "./apps.js";

const [peer, kase, notes] = process.argv.slice(2);
const { call, setCookie } = await cell(peer, kase, Number(notes));
const now = () => Number(process.hrtime.bigint());

async function calls(times) {
  for (let time = 0; time < times; time++) {
    const res = call();
    // No promise, no turn of the event loop.
    if (res instanceof Promise) await res;
  }
}

// How many calls take so many nanoseconds when nothing disturbs: the most of eight tries.
async function repeats(run) {
  let most = 1;
  for (let slice = 0; slice < 8; slice++) {
    const end = now() + run / 8;
    let times = 0;
    for (; now() < end; times++) await calls(1);
    most = Math.max(most, times);
  }
  return 8 * most;
}

// Nanoseconds of a call, and of the processor for it, in all threads.
async function measured(times) {
  // The caches are still another process's.
  await calls(Math.ceil(times / 16));
  const cpu = process.cpuUsage();
  const begun = now();
  await calls(times);
  const ns = (now() - begun) / times;
  const { user, system } = process.cpuUsage(cpu);
  return { ns, cpu: ((user + system) * 1000) / times };
}

process.on("message", async ({ warm, run, times }) => {
  if (times !== undefined) return process.send(await measured(times));
  await repeats(warm);
  process.send({ times: await repeats(run), setCookie });
});
