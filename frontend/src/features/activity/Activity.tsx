import { ChevronRight } from 'lucide-react';
import { memo, useState } from 'react';

import type { Item } from '@/lib/run/view';

import {
  ArtifactLine,
  MessageNote,
  NoticeLine,
  PhaseLine,
  ResumedLine,
  RetryLine,
  SandboxLine,
} from './lines';
import { ToolCard } from './ToolCard';

/** One renderer for each kind of item. */
const ItemView = memo(function ItemView({ item }: { item: Item }) {
  switch (item.kind) {
    case 'phase':
      return <PhaseLine item={item} />;
    case 'message':
      return <MessageNote item={item} />;
    case 'tool':
      return <ToolCard item={item} />;
    case 'notice':
      return <NoticeLine item={item} />;
    case 'sandbox':
      return <SandboxLine item={item} />;
    case 'retry':
      return <RetryLine item={item} />;
    case 'resumed':
      return <ResumedLine item={item} />;
    case 'artifact':
      return <ArtifactLine item={item} />;
  }
});

function countOf(items: Item[]): string {
  const tools = items.filter((item) => item.kind === 'tool').length;
  const warnings = items.filter((item) => item.kind === 'notice' && item.level === 'warning').length;
  const parts = [`${tools} tool call${tools === 1 ? '' : 's'}`];
  if (warnings) parts.push(`${warnings} warning${warnings === 1 ? '' : 's'}`);
  return parts.join(' · ');
}

/** What happened on the way. A run that is watched starts unfolded and stays so; a replayed one starts folded. */
export function Activity({ items, live }: { items: Item[]; live: boolean }) {
  const [open, setOpen] = useState(live);
  return (
    <section aria-label="Activity" data-testid="activity">
      <button
        type="button"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
        className="flex h-9 items-center gap-1.5 rounded-lg pr-2 text-sm font-semibold"
      >
        <ChevronRight size={15} aria-hidden="true" className={`text-soft transition-transform ${open ? 'rotate-90' : ''}`} />
        Activity
        <span className="ml-1 font-normal text-soft">{countOf(items)}</span>
      </button>
      {open && (
        <div className="mt-1 ml-[0.4rem] border-l border-line pl-5">
          {items.map((item) => (
            <ItemView key={`${item.kind}-${item.id}`} item={item} />
          ))}
        </div>
      )}
    </section>
  );
}
