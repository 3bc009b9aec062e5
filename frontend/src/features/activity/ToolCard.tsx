import { ChevronRight } from 'lucide-react';
import { useState } from 'react';

import { CodeBlock } from '@/components/CodeBlock';
import { useNow } from '@/lib/useNow';
import { formatSeconds } from '@/lib/format';
import type { ToolItem } from '@/lib/run/view';

import { ToolOutput } from './ToolOutput';
import { toolCode, toolTitle } from './toolTitle';

const SLOTS = { running: 'active', ok: 'done', error: 'failed', unknown: 'skipped', cancelled: 'skipped' } as const;
const SAID = {
  running: 'running',
  ok: '',
  error: 'failed',
  unknown: 'outcome unknown',
  cancelled: 'stopped',
} as const;

function Elapsed({ since }: { since: string }) {
  const seconds = Math.max(0, (useNow() - Date.parse(since)) / 1000);
  return <>{seconds < 1 ? '' : `${Math.floor(seconds)} s`}</>;
}

/** The last line that came, so that a folded call still shows that it moves. */
function lastLine(item: ToolItem): string {
  const text = item.output.findLast((chunk) => chunk.text.trim())?.text ?? '';
  return text.trimEnd().split('\n').at(-1)?.trim() ?? '';
}

function errorLine(item: ToolItem): string {
  const lines = item.result.trim().split('\n');
  return (lines.findLast((line) => line.startsWith('[error]'))?.slice(7) ?? lines[0] ?? '').trim();
}

function Arguments({ item }: { item: ToolItem }) {
  const code = toolCode(item);
  if (code) return <CodeBlock code={code.code} language={code.language} />;
  if (!Object.keys(item.args).length) return null;
  return <CodeBlock code={JSON.stringify(item.args, null, 2)} language="json" wrap />;
}

function Told({ item }: { item: ToolItem }) {
  if (!item.result.trim()) return null;
  if (!item.output.length) return <CodeBlock code={item.result} wrap />;
  return (
    <details>
      <summary className="w-fit rounded text-xs text-soft underline underline-offset-3">What the agent was told</summary>
      <div className="mt-2">
        <CodeBlock code={item.result} wrap />
      </div>
    </details>
  );
}

function Headline({ item }: { item: ToolItem }) {
  const { action, about } = toolTitle(item);
  const second = item.status === 'error' ? errorLine(item) : item.status === 'running' ? lastLine(item) : '';
  return (
    <>
      <span className="flex-none font-medium">{action}</span>
      <span className={`min-w-0 flex-1 truncate font-mono text-xs ${item.status === 'error' ? 'text-bad' : 'text-soft'}`}>
        {second || about}
      </span>
      {SAID[item.status] && <span className="flex-none text-xs text-soft">{SAID[item.status]}</span>}
      <span className="w-11 flex-none text-right text-xs text-soft tabular-nums">
        {item.seconds !== null ? formatSeconds(item.seconds) : item.status === 'running' && <Elapsed since={item.startedAt} />}
      </span>
    </>
  );
}

/** A tool call: one line that never changes its height, and all of it on demand. */
export function ToolCard({ item }: { item: ToolItem }) {
  const [open, setOpen] = useState(false);
  const panel = `tool-${item.id}`;
  return (
    <div data-testid="tool" data-status={item.status}>
      <button
        type="button"
        aria-expanded={open}
        aria-controls={panel}
        onClick={() => setOpen(!open)}
        className="flex h-9 w-full items-center gap-3 rounded-lg pr-2 text-left text-sm hover:bg-sunk"
      >
        <span className="slot" data-state={SLOTS[item.status]} aria-hidden="true" />
        <Headline item={item} />
        <ChevronRight size={15} aria-hidden="true" className={`flex-none text-soft transition-transform ${open ? 'rotate-90' : ''}`} />
      </button>
      {open && (
        <div id={panel} className="space-y-2 pt-1 pb-3 pl-[1.05rem]">
          <Arguments item={item} />
          <ToolOutput output={item.output} />
          <Told item={item} />
        </div>
      )}
    </div>
  );
}
