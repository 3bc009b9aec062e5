/** The small renderers: one line for one kind of event. */

import { Box, FileCheck2, Info, RotateCcw, TriangleAlert } from 'lucide-react';
import type { ReactNode } from 'react';

import { Markdown } from '@/components/Markdown';
import { useSessionFiles } from '@/components/session';
import { formatSeconds, formatSize } from '@/lib/format';
import type {
  ArtifactItem,
  MessageItem,
  NoticeItem,
  PhaseItem,
  ResumedItem,
  RetryItem,
  SandboxItem,
} from '@/lib/run/view';

interface LineProps {
  icon: ReactNode;
  loud?: boolean;
  children: ReactNode;
}

function Line({ icon, loud = false, children }: LineProps) {
  const look = loud ? 'rounded-lg bg-brass-tint px-2.5 -mx-2.5 py-1.5' : 'py-1.5 text-soft';
  return (
    <div className={`flex items-start gap-2.5 text-sm ${look}`}>
      <span className={`mt-0.5 flex-none ${loud ? 'text-brass' : ''}`} aria-hidden="true">
        {icon}
      </span>
      <span className="min-w-0 wrap-anywhere">{children}</span>
    </div>
  );
}

export function PhaseLine({ item }: { item: PhaseItem }) {
  return <h4 className="pt-3 pb-1 font-serif text-[1.02rem] font-medium first:pt-0">{item.title}</h4>;
}

export function NoticeLine({ item }: { item: NoticeItem }) {
  const warning = item.level === 'warning';
  return (
    <Line loud={warning} icon={warning ? <TriangleAlert size={15} /> : <Info size={15} />}>
      {item.text}
    </Line>
  );
}

function sandboxText({ change, provider, seconds, reason }: SandboxItem): string {
  if (change === 'created')
    return `A sandbox was made (${provider}${seconds === null ? '' : `, ${formatSeconds(seconds)}`}).`;
  if (change === 'reused') return `The session's sandbox goes on (${provider}), with its files and variables.`;
  if (change === 'resumed') return `The session's sandbox was woken (${provider}), with its files and variables.`;
  if (change === 'restored')
    return `The sandbox was started anew on its files (${provider}); its live variables are gone.`;
  return `The sandbox was lost: ${(reason || 'it died').replace(/\.$/, '')}. The workspace is kept; live variables are gone.`;
}

export function SandboxLine({ item }: { item: SandboxItem }) {
  return (
    <Line loud={item.change === 'lost' || item.change === 'restored'} icon={<Box size={15} />}>
      {sandboxText(item)}
    </Line>
  );
}

export function RetryLine({ item }: { item: RetryItem }) {
  return (
    <Line icon={<RotateCcw size={15} />}>
      The model did not answer ({item.reason}); try {item.attempt + 1} follows after {formatSeconds(item.waitSeconds)}.
    </Line>
  );
}

export function ResumedLine({ item }: { item: ResumedItem }) {
  return <Line icon={<RotateCcw size={15} />}>Taken up again: {item.reason}</Line>;
}

export function ArtifactLine({ item }: { item: ArtifactItem }) {
  const { open } = useSessionFiles();
  return (
    <Line icon={<FileCheck2 size={15} />}>
      <button type="button" onClick={() => open(item.file.path)} className="rounded text-ink underline decoration-line underline-offset-3 hover:decoration-accent">
        {item.file.path}
      </button>{' '}
      {item.title && `· ${item.title} `}· {formatSize(item.file.size)}
    </Line>
  );
}

/** What an agent says on the way; the plan's own text folds away once the plan stands. */
export function MessageNote({ item }: { item: MessageItem }) {
  if (!item.text.trim()) return null;
  if (item.phase !== 'plan') return <Markdown text={item.text} className="py-1 text-sm text-soft" />;
  return (
    <details open={!item.done} className="py-1 text-sm text-soft">
      <summary className="w-fit rounded underline underline-offset-3">{item.done ? 'The plan in full' : 'Writing the plan'}</summary>
      <Markdown text={item.text} className="mt-2 border-l-2 border-line pl-3" />
    </details>
  );
}
