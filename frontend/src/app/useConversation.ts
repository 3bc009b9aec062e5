import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useCallback, useRef, useState } from 'react';

import { sendGoal, type ChatAccepted, type ChatRequest } from '@/api/chat';
import { hasEnded, type Run, type SessionDetail } from '@/api/records';
import { cancelRun } from '@/api/runs';
import { createSession, getSession } from '@/api/sessions';
import { REPORT, type ReportOwner } from '@/features/finished/FinishedWork';
import type { RunView } from '@/lib/run/view';

import { goToSession } from './useRoute';

const NO_USAGE = { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, usd: null };

/** A run as it stands right after it was accepted, until the server's own record is here. */
function freshRun({ run_id, session_id }: ChatAccepted, body: ChatRequest): Run {
  const { message: goal, mode = 'auto', agent = null, files = [] } = body;
  return {
    run_id,
    session_id,
    state: 'queued',
    request: { goal, session_id, mode, agent, files },
    target: null,
    answer: '',
    error: '',
    usage: NO_USAGE,
    created_at: new Date().toISOString(),
    started_at: null,
    ended_at: null,
  };
}

function withRun(detail: SessionDetail | undefined, run: Run): SessionDetail {
  const now = run.created_at;
  const empty = { session_id: run.session_id, title: '', owner: '', created_at: now, updated_at: now, runs: [] };
  const before = detail ?? empty;
  return { ...before, runs: [...before.runs.filter((one) => one.run_id !== run.run_id), run] };
}

/** Makes a session once, however many files ask for it at the same time. */
function useEnsureSession(session: string): () => Promise<string> {
  const client = useQueryClient();
  const making = useRef<Promise<string> | null>(null);
  return async () => {
    if (session) return session;
    making.current ??= createSession('').then(({ session_id }) => session_id);
    try {
      const id = await making.current;
      goToSession(id);
      void client.invalidateQueries({ queryKey: ['sessions'] });
      return id;
    } finally {
      making.current = null;
    }
  };
}

type Endings = Record<string, { report: boolean }>;

function ownerOfReport(later: Run[], endings: Endings): ReportOwner {
  if (later.some((run) => endings[run.run_id]?.report)) return 'replaced';
  return later.some((run) => hasEnded(run) && !endings[run.run_id]) ? 'unknown' : 'own';
}

/** What the page knows about runs that ended before its eyes, or were replayed. */
function useEndings(session: string) {
  const client = useQueryClient();
  const [endings, setEndings] = useState<Endings>({});
  const onEnd = useCallback(
    (runId: string, view: RunView) => {
      setEndings((all) => ({ ...all, [runId]: { report: view.files.some(({ path }) => path === REPORT) } }));
      const record = client.getQueryData<SessionDetail>(['session', session])?.runs.find((run) => run.run_id === runId);
      if (record && hasEnded(record)) return;
      for (const queryKey of [['session', session], ['sessions'], ['files', session], ['text', session]])
        void client.invalidateQueries({ queryKey });
    },
    [client, session],
  );
  return { endings, onEnd };
}

/** The session's runs, and the ways to add and to stop one. */
export function useConversation(session: string) {
  const client = useQueryClient();
  const detail = useQuery({ queryKey: ['session', session], queryFn: () => getSession(session), enabled: session !== '' });
  const { endings, onEnd } = useEndings(session);
  const ensureSession = useEnsureSession(session);
  const send = useMutation({
    mutationFn: sendGoal,
    onSuccess: (accepted, body) => {
      const key = ['session', accepted.session_id];
      client.setQueryData<SessionDetail>(key, (before) => withRun(before, freshRun(accepted, body)));
      void client.invalidateQueries({ queryKey: ['sessions'] });
      goToSession(accepted.session_id);
    },
  });
  const stop = useMutation({ mutationFn: cancelRun });
  const runs = (detail.data?.runs ?? []).toSorted((a, b) => a.created_at.localeCompare(b.created_at));
  const running = runs.findLast((run) => !hasEnded(run) && !endings[run.run_id]);
  const reportOwner = (run: Run) => ownerOfReport(runs.slice(runs.indexOf(run) + 1), endings);
  return { detail, runs, running, reportOwner, onEnd, ensureSession, send, stop };
}
