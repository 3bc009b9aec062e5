import { describe, expect, it } from 'vitest';

import { applyEvents } from '@/lib/run/reduce';
import { activityOf, answerOf, durationOf, EMPTY_VIEW, isTask } from '@/lib/run/view';

import { delta, finished, journal } from './events';

const fold = (...events: Parameters<typeof journal>) => applyEvents(EMPTY_VIEW, journal(...events));
const file = (path: string, size = 1) => ({ path, size, media_type: 'text/plain' });

describe('messages', () => {
  it('puts deltas together', () => {
    expect(answerOf(fold(delta('m1', 'Hel'), delta('m1', 'lo')))).toBe('Hello');
  });

  it('lets the completed message stand for its deltas', () => {
    const view = fold(delta('m1', 'Hel'), { type: 'message.completed', message_id: 'm1', text: 'Hello!', phase: '' });
    expect(view.items).toEqual([{ kind: 'message', id: 'm1', phase: '', text: 'Hello!', done: true }]);
  });

  it('keeps a message that came whole', () => {
    expect(answerOf(fold({ type: 'message.completed', message_id: 'm1', text: 'Hi', phase: '' }))).toBe('Hi');
  });

  it('drops the message that a retry voids, and only that', () => {
    const view = fold(
      delta('m1', 'kept'),
      delta('m2', 'void'),
      { type: 'model.retried', attempt: 1, wait_seconds: 2, reason: 'overloaded', message_id: 'm2' },
      delta('m3', 'again'),
    );
    expect(answerOf(view)).toBe('kept\n\nagain');
    expect(view.items.map((item) => item.kind)).toEqual(['message', 'retry', 'message']);
  });

  it('drops what was not completed before the run was resumed', () => {
    const view = fold(
      { type: 'message.completed', message_id: 'm1', text: 'whole', phase: '' },
      delta('m2', 'half'),
      { type: 'run.resumed', worker: 'w2', reason: 'its worker died' },
    );
    expect(answerOf(view)).toBe('whole');
  });

  it('shows plan and working notes as activity, the summary as the answer', () => {
    const view = fold(delta('p', '1. a', 'plan'), delta('e', 'note', 'execute'), delta('s', 'sum', 'summarize'));
    expect(answerOf(view)).toBe('sum');
    expect(activityOf(view).map((item) => item.id)).toEqual(['p', 'e']);
  });

  it('ends with the answer that the run ended with', () => {
    expect(answerOf(fold(delta('m', 'draft'), { ...finished, answer: 'final' }))).toBe('final');
  });
});

describe('tool calls', () => {
  const started = { type: 'tool.started', call_id: 'c', name: 'execute', args: { command: 'ls' }, read_only: false } as const;
  const output = (stream: string, text: string, result: unknown = null) =>
    ({ type: 'tool.output', call_id: 'c', stream, text, result }) as const;

  it('joins neighbouring output of one stream and keeps rich results apart', () => {
    const png = { kind: 'png', data: 'charts/a.png' };
    const view = fold(started, output('stdout', 'a'), output('stdout', 'b'), output('stderr', 'c'), output('result', '', png));
    expect(view.items[0]).toMatchObject({
      output: [
        { stream: 'stdout', text: 'ab' },
        { stream: 'stderr', text: 'c' },
        { stream: 'result', result: png },
      ],
    });
  });

  it('records how it ended', () => {
    const view = fold(started, { type: 'tool.finished', call_id: 'c', name: 'execute', status: 'error', result: 'no', seconds: 1.5 });
    expect(view.items[0]).toMatchObject({ status: 'error', result: 'no', seconds: 1.5 });
  });

  it('begins anew in its place when it is run again', () => {
    const view = fold(started, output('stdout', 'old'), { type: 'run.resumed', worker: 'w', reason: 'r' }, started);
    expect(view.items.map((item) => item.kind)).toEqual(['tool', 'resumed']);
    expect(view.items[0]).toMatchObject({ status: 'running', output: [] });
  });

  it.each([
    ['run.cancelled', 'cancelled'],
    ['run.failed', 'unknown'],
  ] as const)('does not go on running after %s', (type, status) => {
    expect(fold(started, { type, answer: '', files: [], error: '', remedy: '' }).items[0]).toMatchObject({ status });
  });
});

describe('the run', () => {
  it('is no task when it only answers', () => {
    const route = { type: 'route.decided', target: 'chat', reason: 'small talk', by: 'rule', skill: null } as const;
    expect(isTask(fold(route, delta('m', 'Hello'), finished))).toBe(false);
  });

  it('follows the plan, and leaves no step under way at the end', () => {
    const steps = [
      { text: 'a', status: 'done' },
      { text: 'b', status: 'active' },
    ];
    expect(fold({ type: 'plan.updated', steps }).plan).toEqual(steps);
    const failed = fold({ type: 'plan.updated', steps }, { type: 'run.failed', code: 'x', error: 'e', remedy: 'r', answer: '', files: [] });
    expect(failed.plan.map((step) => step.status)).toEqual(['done', 'failed']);
    expect(failed.end).toMatchObject({ state: 'failed', error: 'e', remedy: 'r' });
  });

  it('names each file once, as it was last', () => {
    const view = fold(
      { type: 'artifact.written', file: file('a.md', 1), title: '' },
      { ...finished, files: [file('a.md', 2), file('b.md')] },
    );
    expect(view.files.map(({ path, size }) => [path, size])).toEqual([
      ['a.md', 2],
      ['b.md', 1],
    ]);
  });

  it('has no end while it goes on after one', () => {
    expect(fold(finished, { type: 'run.resumed', worker: 'w', reason: 'asked for' }).end).toBeNull();
  });

  it('says which budget is spent', () => {
    const view = fold({ type: 'run.budget_spent', kind: 'tokens', limit: 200000, answer: '', files: [] });
    expect(view.end).toMatchObject({ state: 'budget_spent', error: expect.stringContaining('200,000 tokens') });
  });

  it('counts its time from the first start', () => {
    const view = fold(
      { type: 'run.started', worker: 'w', model: 'm', playbook: false },
      { type: 'run.started', worker: 'w2', model: 'm', playbook: false },
      finished,
    );
    expect(durationOf(view)).toBe(2);
  });
});

describe('the journal', () => {
  const events = journal(delta('m', 'a'), delta('m', 'b'), delta('m', 'c'), finished);

  it('gives the same view whole, in pieces, and with repetitions', () => {
    const whole = applyEvents(EMPTY_VIEW, events);
    const first = applyEvents(EMPTY_VIEW, events.slice(0, 2));
    expect(applyEvents(first, events.slice(2))).toEqual(whole);
    expect(applyEvents(first, events)).toEqual(whole);
  });

  it('does not change the view it is given', () => {
    const before = applyEvents(EMPTY_VIEW, events.slice(0, 1));
    const copy = structuredClone(before);
    applyEvents(before, events);
    expect(before).toEqual(copy);
  });

  it('passes over types it does not know', () => {
    const odd = { ...journal(finished)[0], type: 'something.new' } as unknown as (typeof events)[number];
    expect(applyEvents(EMPTY_VIEW, [odd])).toMatchObject({ lastSeq: 1, items: [] });
  });
});

describe('egress', () => {
  const asked = { sandbox_id: 's', host: 'example.com', port: 443, rule: '', requests: 3, bytes_in: 0, bytes_out: 0 };

  it('says what was refused, and keeps quiet about what was allowed', () => {
    const view = fold(
      { type: 'sandbox.egress', ...asked, verdict: 'allowed', reason: '' },
      { type: 'sandbox.egress', ...asked, verdict: 'denied', reason: 'no rule allows it' },
    );
    expect(view.items).toMatchObject([{ kind: 'notice', level: 'warning', text: expect.stringContaining('example.com:443') }]);
  });
});
