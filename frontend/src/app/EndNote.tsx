import { CircleAlert, CircleStop, Hourglass } from 'lucide-react';

import type { End } from '@/lib/run/view';

const LOOKS = {
  failed: { icon: CircleAlert, look: 'bg-bad-tint', tone: 'text-bad', title: 'This did not work out' },
  cancelled: { icon: CircleStop, look: 'bg-sunk', tone: 'text-soft', title: 'Stopped' },
  budget_spent: { icon: Hourglass, look: 'bg-brass-tint', tone: 'text-brass', title: 'The budget is spent' },
};

/** How a run ended that did not finish: the sentence, and what to do about it. */
export function EndNote({ end }: { end: End }) {
  if (end.state === 'finished') return null;
  const { icon: Icon, look, tone, title } = LOOKS[end.state];
  const text = end.state === 'cancelled' ? 'The run was stopped; what was done until then is kept.' : end.error;
  return (
    <div role="alert" data-testid="end" data-state={end.state} className={`flex gap-3 rounded-2xl px-4 py-3.5 text-[0.95rem] ${look}`}>
      <Icon size={19} className={`mt-0.5 flex-none ${tone}`} aria-hidden="true" />
      <div className="min-w-0 wrap-anywhere">
        <p className="font-medium">{title}</p>
        <p>{text}</p>
        {end.remedy && <p className="text-soft">{end.remedy}</p>}
      </div>
    </div>
  );
}
