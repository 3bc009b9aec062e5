import { Logo } from '@/components/Logo';

const EXAMPLES = [
  {
    title: 'Read a table',
    goal: 'Analyse the attached table: what stands out, what changes over time, and which two charts show it best?',
  },
  {
    title: 'Compare documents',
    goal: 'Compare the attached documents: where do they agree, where do they differ? Quote every claim.',
  },
  { title: 'Ask something', goal: 'Hello! What can you do for me?' },
];

/** Before the first goal. */
export function EmptyState({ onExample }: { onExample: (goal: string) => void }) {
  return (
    <div className="mx-auto flex min-h-full max-w-3xl flex-col justify-center px-5 py-10">
      <Logo className="size-10" />
      <h1 className="mt-5 font-serif text-[2.1rem] leading-tight font-medium tracking-tight">What should be done?</h1>
      <p className="mt-2 max-w-[52ch] text-soft">
        Small things are answered at once. Big things are planned, carried out in an isolated computer, and handed back as
        finished work.
      </p>
      <ul className="mt-8 border-t border-line">
        {EXAMPLES.map(({ title, goal }) => (
          <li key={title} className="border-b border-line">
            <button
              type="button"
              onClick={() => onExample(goal)}
              className="group flex w-full items-start gap-4 py-3.5 text-left hover:text-accent"
            >
              <span className="slot mt-1 group-hover:[--line:var(--brass-fill)]" data-state="skipped" aria-hidden="true" />
              <span>
                <span className="block font-medium">{title}</span>
                <span className="block text-sm text-soft">{goal}</span>
              </span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
