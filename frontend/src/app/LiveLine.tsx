import { WifiOff } from 'lucide-react';

import type { StreamStatus } from '@/api/stream';
import type { RunView } from '@/lib/run/view';

function doing(view: RunView, stopping: boolean): string {
  if (stopping) return 'Stopping…';
  if (!view.startedAt) return 'Waiting for a worker…';
  const phase = view.items.findLast((item) => item.kind === 'phase');
  return phase ? `${phase.title}…` : 'Thinking…';
}

/** What the run is at, in a line that keeps its height; also whether the connection is there. */
export function LiveLine({ view, stream, stopping }: { view: RunView; stream: StreamStatus; stopping: boolean }) {
  const away = stream === 'reconnecting';
  return (
    <p role="status" data-testid="live" className="flex h-7 items-center gap-2.5 text-sm text-soft">
      {away ? <WifiOff size={15} aria-hidden="true" /> : <span className="slot" data-state="active" aria-hidden="true" />}
      {away ? 'The connection was lost; reconnecting. Nothing that happens meanwhile is missed.' : doing(view, stopping)}
    </p>
  );
}
