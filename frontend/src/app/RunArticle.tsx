import { FileText } from 'lucide-react';
import { memo, useEffect, useMemo, useState } from 'react';

import { hasEnded, type Run } from '@/api/records';
import { ErrorNote } from '@/components/ErrorNote';
import { Markdown } from '@/components/Markdown';
import { useSessionFiles } from '@/components/session';
import { Activity } from '@/features/activity/Activity';
import { FileList } from '@/features/files/FileList';
import { FinishedWork, type ReportOwner } from '@/features/finished/FinishedWork';
import { Plan } from '@/features/plan/Plan';
import { fileName } from '@/lib/format';
import { useRun } from '@/lib/run/useRun';
import { activityOf, answerOf, isTask, type RunView } from '@/lib/run/view';

import { EndNote } from './EndNote';
import { LiveLine } from './LiveLine';
import { Reveal } from './Reveal';
import { RunFooter } from './RunFooter';

const AGENTS = { chat: 'Answered directly', research: 'Research agent', data: 'Data agent', computer: 'Computer agent' };
const BY = { rule: 'by rule', model: "the model's choice", user: 'your choice' };

function Goal({ text, files }: { text: string; files: string[] }) {
  const { open } = useSessionFiles();
  return (
    <header>
      <h2 className="font-serif text-[1.4rem] leading-snug font-medium whitespace-pre-wrap wrap-anywhere">{text}</h2>
      {files.length > 0 && (
        <ul className="mt-2 flex flex-wrap gap-1.5" aria-label="Files of this goal">
          {files.map((path) => (
            <li key={path} className="max-w-full">
              <button
                type="button"
                onClick={() => open(path)}
                className="flex max-w-full items-center gap-1.5 rounded-full border border-line px-2.5 py-0.5 text-sm text-soft hover:text-ink"
              >
                <FileText size={14} aria-hidden="true" className="flex-none" />
                <span className="truncate">{fileName(path)}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </header>
  );
}

function Route({ route }: { route: NonNullable<RunView['route']> }) {
  return (
    <p data-testid="route" className="text-sm text-soft">
      <span className="font-medium">{AGENTS[route.target]}</span> · {route.reason.replace(/\.$/, '')} ({BY[route.by]})
    </p>
  );
}

interface RunArticleProps {
  run: Run;
  stopping: boolean;
  reportOwner: ReportOwner;
  onPlaybook: () => void;
  /** The run has ended and all of it is here; tells once. */
  onEnd: (runId: string, view: RunView) => void;
}

/** One goal and what became of it. */
export const RunArticle = memo(function RunArticle({ run, stopping, reportOwner, onPlaybook, onEnd }: RunArticleProps) {
  const { view, stream, error } = useRun(run.run_id, hasEnded(run));
  const [live] = useState(!hasEnded(run));
  const task = isTask(view);
  const activity = useMemo(() => activityOf(view), [view]);
  const answer = answerOf(view) || run.answer;
  const over = view.end !== null || hasEnded(run);
  useEffect(() => {
    if (view.end) onEnd(run.run_id, view);
    // The view no longer changes once it has an end.
  }, [view.end !== null]);
  useEffect(() => {
    if (view.playbook) onPlaybook();
  }, [view.playbook, onPlaybook]);
  return (
    <article data-testid="run" data-run={run.run_id} className="scroll-mt-4 space-y-4" aria-busy={!over}>
      <Goal text={view.goal || run.request.goal} files={view.inputs.length ? view.inputs : run.request.files} />
      {task && view.route && <Route route={view.route} />}
      {view.plan.length > 0 && <Plan steps={view.plan} />}
      {activity.length > 0 && <Activity items={activity} live={live} />}
      {answer && (
        <div data-testid="answer" aria-live={over ? 'off' : 'polite'} aria-atomic="false">
          <Markdown text={answer} className="max-w-[70ch]" />
        </div>
      )}
      {error && <ErrorNote error={error} />}
      {!over && !error && <LiveLine view={view} stream={stream} stopping={stopping} />}
      {view.end && view.end.state !== 'finished' && (
        <Reveal wanted={live}>
          <EndNote end={view.end} />
        </Reveal>
      )}
      {view.end && view.files.length > 0 && (
        <Reveal wanted={live}>
          <FinishedWork
            files={view.files}
            version={view.end.ts}
            reportOwner={reportOwner}
            list={<FileList files={view.files} />}
          />
        </Reveal>
      )}
      {over && (
        <Reveal wanted={live && !view.files.length}>
          <RunFooter view={view} />
        </Reveal>
      )}
    </article>
  );
});
