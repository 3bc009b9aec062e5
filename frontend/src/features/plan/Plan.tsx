import type { PlanStep } from '@/api/events';
import { Inline } from '@/components/Inline';

const SAID: Record<PlanStep['status'], string> = {
  pending: 'to do',
  active: 'under way',
  done: 'done',
  failed: 'failed',
  skipped: 'left out',
};

function Step({ step }: { step: PlanStep }) {
  const looks = { pending: 'text-soft', active: 'font-medium', done: '', failed: 'text-bad', skipped: 'text-soft line-through' };
  return (
    <li className="flex items-start gap-3" data-status={step.status} aria-current={step.status === 'active' ? 'step' : undefined}>
      <span className="slot mt-[0.2rem]" data-state={step.status} aria-hidden="true" />
      <span className={`min-w-0 wrap-anywhere ${looks[step.status]}`}>
        <Inline text={step.text} /> <span className="sr-only">({SAID[step.status]})</span>
      </span>
    </li>
  );
}

/** The plan, ticking. */
export function Plan({ steps }: { steps: PlanStep[] }) {
  const done = steps.filter((step) => step.status === 'done').length;
  return (
    <section aria-label="Plan" data-testid="plan" className="rounded-2xl border border-line bg-card px-5 py-4">
      <h3 className="mb-2.5 flex items-baseline justify-between text-sm font-semibold">
        Plan
        <span className="font-normal text-soft tabular-nums" role="status">
          {done} of {steps.length} done
        </span>
      </h3>
      <ol className="space-y-2 text-[0.94rem] leading-snug">
        {steps.map((step, index) => (
          <Step key={index} step={step} />
        ))}
      </ol>
    </section>
  );
}
