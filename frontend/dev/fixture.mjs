/**
 * A stand-in for the server, for work on the page alone: `node dev/fixture.mjs [port]`, then `npm run dev`.
 * It keeps runs in memory and plays a scripted one according to words in the goal:
 * "fail", "budget", "long", "drop" (the stream is cut now and then), "data"; anything else is small talk.
 */

import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

const PORT = Number(process.argv[2] ?? 8700);
const STATIC = fileURLToPath(new URL('../../src/orchestrion/server/static/', import.meta.url));
const KEY = process.env.FIXTURE_KEY ?? '';
const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', woff2: 'font/woff2' };

const sessions = new Map();
const runs = new Map();
let count = 0;
const id = (prefix) => `${prefix}_${(++count).toString().padStart(6, '0')}`;
const now = () => new Date().toISOString();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const chart = (seed) => {
  const points = Array.from({ length: 24 }, (_, i) => `${40 + i * 22},${250 - i * 6 - 40 * Math.sin(i / 2 + seed)}`);
  const bars = Array.from({ length: 24 }, (_, i) => `<rect x="${36 + i * 22}" y="${330 - (i * 7 + seed * 13) % 60}" width="9" height="${(i * 7 + seed * 13) % 60}" fill="#d7962a"/>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="600" height="375"><rect width="600" height="375" fill="#fff"/><polyline fill="none" stroke="#12535d" stroke-width="3" points="${points.join(' ')}"/>${bars.join('')}<line x1="30" y1="330" x2="575" y2="330" stroke="#888"/></svg>`;
};

const REPORT = `# Sales 2025: growth carried by two regions

## What the table holds

The file has **1,204 rows** and 6 columns; 13 values of \`price\` are missing [1]. Dates run from 2025-01-02 to 2025-12-30.

| region | revenue | share |
|---|---:|---:|
| North | 418,220.50 | 41.2 % |
| South | 301,100.00 | 29.7 % |
| West | 295,730.25 | 29.1 % |

## Revenue over time

Revenue rose from 61 k in January to 112 k in December, with a dip in **August** [2].

![Revenue by month](charts/revenue.png)

## Where it comes from

North and South carry the growth; West stays level.

![Revenue by region](charts/regions.png)

## Sources

1. **sales.csv** (uploads/sales.csv) — “price: 13 missing of 1204” [stored source](sources/S1.md)
2. **sales.csv** (uploads/sales.csv) — “2025-08 58211.40” [stored source](sources/S1.md)
`;

const file = (path, text, type = 'text/markdown') => ({ path, size: Buffer.byteLength(text), media_type: type, text });
const ref = ({ path, size, media_type }) => ({ path, size, media_type });

function emit(run, type, fields = {}, agent = 'system') {
  run.events.push({ run_id: run.run_id, seq: run.events.length + 1, ts: now(), agent, type, ...fields });
  for (const wake of run.waiting.splice(0)) wake();
}

async function say(run, phase, text, agent) {
  const message_id = id('msg');
  for (const word of text.match(/\S+\s*/g) ?? []) {
    if (run.cancelled) return;
    emit(run, 'message.delta', { message_id, text: word, phase }, agent);
    await sleep(18);
  }
  emit(run, 'message.completed', { message_id, text, phase }, agent);
}

async function tool(run, name, args, { output = [], result = 'ok', status = 'ok', wait = 700 } = {}) {
  const call_id = id('call');
  const from = Date.now();
  emit(run, 'tool.started', { call_id, name, args, read_only: false }, 'data');
  for (const part of output) {
    await sleep(wait / (output.length + 1));
    emit(run, 'tool.output', { call_id, stream: 'stdout', text: '', result: null, ...part }, 'data');
  }
  await sleep(wait / (output.length + 1));
  emit(run, 'tool.finished', { call_id, name, status, result, seconds: (Date.now() - from) / 1000 }, 'data');
}

const STEPS = ['Look at the table and its quality', 'Compute revenue by month and region', 'Draw the two charts', 'Write the report'];
const plan = (run, done) =>
  emit(run, 'plan.updated', {
    steps: STEPS.map((text, i) => ({ text, status: i < done ? 'done' : i === done ? 'active' : 'pending' })),
  });

function usage(run, tokens) {
  const total = { input_tokens: tokens, output_tokens: Math.round(tokens / 8), cache_read_tokens: 0, usd: tokens / 2e5 };
  emit(run, 'usage.recorded', { model: 'stand-in', call: total, total });
}

function end(run, type, fields) {
  const files = sessions.get(run.session_id).files.filter(({ path }) => !path.startsWith('uploads/')).map(ref);
  run.state = type.slice(4);
  run.ended_at = now();
  run.answer = fields.answer ?? '';
  emit(run, type, { answer: '', files: run.target === 'chat' ? [] : files, ...fields });
}

const CODE = `import pandas as pd
from matplotlib import pyplot as plt

table = pd.read_csv("uploads/sales.csv")
by_month = table.groupby("month")["revenue"].sum()  # the whole year
by_month.plot(kind="line", title="Revenue")
by_month.tail(3)`;

async function work(run, goal) {
  const session = sessions.get(run.session_id);
  run.target = 'data';
  emit(run, 'route.decided', { target: 'data', reason: 'A table is attached', by: 'rule', skill: null });
  emit(run, 'run.phase', { phase: 'plan', title: 'Planning' });
  await say(run, 'plan', STEPS.map((step, i) => `${i + 1}. ${step}`).join('\n'), 'orchestrator');
  plan(run, 0);
  emit(run, 'run.phase', { phase: 'execute', title: 'Carrying it out' });
  emit(run, 'sandbox.created', { sandbox_id: 'sbx', provider: 'local', seconds: 0.21 });
  await tool(run, 'list_files', { path: '' }, { result: 'uploads/sales.csv  48 213' });
  await say(run, 'execute', 'The table has six columns; I look at its quality first.', 'data');
  await tool(run, 'execute_code', { code: CODE, language: 'python' }, {
    wait: 1800,
    output: [
      { text: 'rows 1204\ncolumns 6\n' },
      { stream: 'stderr', text: 'FutureWarning: something will change\n' },
      { stream: 'result', result: { kind: 'html', data: '<table onclick="alert(1)"><tr><th>month</th><th>revenue</th></tr><tr><td>2025-12</td><td>112,004.10</td></tr><script>alert(1)</script></table>' } },
      { stream: 'result', result: { kind: 'png', data: 'charts/revenue.png' } },
    ],
    result: 'rows 1204\ncolumns 6\n[figure] charts/revenue.png',
  });
  plan(run, 1);
  if (goal.includes('fail')) {
    await tool(run, 'execute_code', { code: 'table["colour"]', language: 'python' }, { status: 'error', result: 'Traceback …\n[error] KeyError: colour' });
    return end(run, 'run.failed', {
      code: 'model_unavailable',
      error: 'The model did not answer: 529 overloaded, after 5 tries over 42 s.',
      remedy: 'Try again in a few minutes, or name another model in models.yaml.',
      answer: 'What was found until then: the table has 1,204 rows.',
    });
  }
  if (goal.includes('budget')) return end(run, 'run.budget_spent', { kind: 'tokens', limit: 200000, answer: 'Two of four steps are done.' });
  emit(run, 'run.notice', { level: 'warning', code: 'values_missing', text: '13 prices are missing; those rows were left out of the sums.' });
  for (let i = 0; goal.includes('long') && i < 200 && !run.cancelled; i += 1)
    await tool(run, 'execute', { command: `sleep 1 # ${i}` }, { output: [{ text: `line ${i}\n` }] });
  if (run.cancelled) return end(run, 'run.cancelled', { answer: '' });
  await tool(run, 'execute', { command: 'ls charts' }, { output: [{ text: 'regions.png\nrevenue.png\n' }] });
  plan(run, 3);
  session.files.push(file('charts/revenue.png', chart(1), 'image/svg+xml'), file('charts/regions.png', chart(3), 'image/svg+xml'));
  session.files.push(file('sources/S1.md', '# S1\n\nprice: 13 missing of 1204'), file('report.md', REPORT), file('plan.md', STEPS.join('\n')));
  emit(run, 'artifact.written', { file: ref(session.files.at(-2)), title: 'Report' });
  await tool(run, 'write_report', { title: 'Sales 2025', sections: [] });
  plan(run, 4);
  emit(run, 'run.phase', { phase: 'summarize', title: 'Summing up' });
  const answer = 'Revenue nearly **doubled** over 2025, from 61 k to 112 k a month. North and South carry the growth; August is the one dip. The report shows both charts.';
  await say(run, 'summarize', answer, 'orchestrator');
  end(run, 'run.finished', { answer });
}

async function play(run) {
  const goal = run.request.goal.toLowerCase();
  emit(run, 'run.created', { session_id: run.session_id, goal: run.request.goal, files: run.request.files });
  await sleep(150);
  run.state = 'running';
  run.started_at = now();
  emit(run, 'run.started', { worker: 'w1', model: goal.includes('data') ? 'anthropic:stand-in' : 'playbook', playbook: !goal.includes('data') });
  if (/data|fail|budget|long|drop/.test(goal)) {
    usage(run, 18_412);
    return work(run, goal);
  }
  run.target = 'chat';
  emit(run, 'route.decided', { target: 'chat', reason: 'Small talk', by: 'rule', skill: null });
  const answer = 'Hello! I can **profile a table**, compare documents, or just answer.\n\n```python\nprint("hello")  # like this\n```\n\n- one\n- two';
  await say(run, '', answer, 'chat');
  usage(run, 120);
  end(run, 'run.finished', { answer });
}

const json = (response, status, body) => {
  response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' });
  response.end(JSON.stringify(body));
};
const problem = (response, status, title, detail, remedy = '') => json(response, status, { title, detail, remedy, status });

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

async function stream(request, response, run) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  let seq = Number(request.headers['last-event-id'] ?? 0);
  const cutAt = run.request.goal.includes('drop') ? Date.now() + 1500 : Infinity;
  while (!response.destroyed) {
    for (; seq < run.events.length; seq += 1) {
      const event = run.events[seq];
      response.write(`id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    }
    if (run.ended_at || Date.now() > cutAt) return run.ended_at ? response.end() : response.destroy();
    await new Promise((resolve) => run.waiting.push(resolve));
  }
}

function publicRun({ events, waiting, cancelled, ...run }) {
  return run;
}

function newSession(title) {
  const session = { session_id: id('ses'), title, owner: 'local', created_at: now(), updated_at: now(), files: [] };
  sessions.set(session.session_id, session);
  return session;
}

function startRun(response, { message, session_id, mode = 'auto', agent = null, files = [] }) {
  const session = sessions.get(session_id) ?? newSession('');
  session.title ||= message.slice(0, 60);
  session.updated_at = now();
  const run = {
    run_id: id('run'), session_id: session.session_id, state: 'queued', target: null, answer: '', error: '',
    request: { goal: message, session_id: session.session_id, mode, agent, files },
    usage: {}, created_at: now(), started_at: null, ended_at: null, events: [], waiting: [], cancelled: false,
  };
  runs.set(run.run_id, run);
  void play(run);
  json(response, 202, { run_id: run.run_id, session_id: run.session_id, stream_url: `/api/stream/${run.run_id}` });
}

const view = ({ files, ...session }) => session;

async function upload(request, response, session) {
  const text = (await bodyOf(request)).toString('latin1');
  const name = /filename="([^"]*)"/.exec(text)?.[1] ?? 'file';
  if (name.includes('big')) return problem(response, 413, 'That is too large', `${name} is over the limit of 200 MB.`, 'Send a smaller file.');
  if (name.includes('bad')) return problem(response, 422, "That request can't be carried out", `${name} is not a name for a file.`);
  session.files.push(file(`uploads/${name}`, text.split('\r\n\r\n')[1] ?? '', 'text/csv'));
  json(response, 201, { files: [ref(session.files.at(-1))] });
}

async function sessionRoute(request, response, session, rest) {
  if (rest[0] === 'files' && request.method === 'POST') return upload(request, response, session);
  if (rest[0] === 'files' && rest.length === 1) return json(response, 200, { files: session.files.map(ref) });
  if (rest[0] === 'files') {
    const found = session.files.findLast(({ path }) => path === decodeURIComponent(rest.slice(1).join('/')));
    if (!found) return problem(response, 404, 'Not found', 'There is no such file.');
    response.writeHead(200, { 'content-type': found.media_type });
    return response.end(found.text);
  }
  if (request.method === 'DELETE') return sessions.delete(session.session_id), response.writeHead(204).end();
  if (request.method === 'PATCH') Object.assign(session, JSON.parse(await bodyOf(request)));
  const own = [...runs.values()].filter((run) => run.session_id === session.session_id);
  json(response, 200, { ...view(session), runs: own.map(publicRun) });
}

async function api(request, response, [resource, key, ...rest]) {
  if (KEY && request.headers.authorization !== `Bearer ${KEY}`) return problem(response, 401, 'A key is needed', 'This server needs a key.');
  if (resource === 'chat') return startRun(response, JSON.parse(await bodyOf(request)));
  if (resource === 'stream' && runs.has(key)) return stream(request, response, runs.get(key));
  if (resource === 'runs' && rest[0] === 'cancel') return (runs.get(key).cancelled = true), json(response, 202, {});
  if (resource === 'sessions' && !key && request.method === 'POST') return json(response, 201, view(newSession(JSON.parse(await bodyOf(request)).title)));
  if (resource === 'sessions' && !key) return json(response, 200, { sessions: [...sessions.values()].map(view) });
  if (resource === 'sessions' && sessions.has(key)) return sessionRoute(request, response, sessions.get(key), rest);
  problem(response, 404, 'Not found', 'There is nothing here by that name.', 'Go back to the list of sessions.');
}

function page(response, path) {
  const name = path === '/' ? 'index.html' : path.slice(1);
  if (!existsSync(STATIC + name) || !statSync(STATIC + name).isFile()) return problem(response, 404, 'Not found', path);
  response.writeHead(200, { 'content-type': TYPES[name.split('.').at(-1)] ?? 'application/octet-stream' });
  createReadStream(STATIC + name).pipe(response);
}

createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://x');
  if (pathname === '/readyz')
    return json(response, 200, { status: 'degraded', checks: [{ name: 'models', status: 'degraded', detail: 'No model key is set: the playbook answers.', remedy: 'Set ANTHROPIC_API_KEY.' }] });
  if (!pathname.startsWith('/api/')) return page(response, pathname);
  return api(request, response, pathname.slice(5).split('/')).catch((error) => problem(response, 500, 'Something went wrong', String(error)));
}).listen(PORT, '127.0.0.1', () => console.log(`fixture on http://127.0.0.1:${PORT}`));
