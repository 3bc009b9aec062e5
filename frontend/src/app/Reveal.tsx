import { useContext, useEffect, useRef, type ReactNode } from 'react';

import { scrollBehavior } from '@/lib/motion';

import { StuckContext } from './useStickToBottom';

/** Brings the top of what appears into view, if the user was at the bottom, where it appears. */
export function Reveal({ wanted, children }: { wanted: boolean; children: ReactNode }) {
  const mark = useRef<HTMLDivElement>(null);
  const stuck = useContext(StuckContext);
  useEffect(() => {
    if (!wanted || !stuck.current) return;
    // What is revealed may be long: its top is wanted, not the bottom that was held so far.
    stuck.current = false;
    mark.current?.scrollIntoView({ block: 'nearest', behavior: scrollBehavior() });
    // Once, when it appears.
  }, []);
  return (
    <div className="relative">
      <div ref={mark} aria-hidden="true" className="pointer-events-none absolute top-0 h-[min(16rem,100%)] w-px scroll-mb-14" />
      {children}
    </div>
  );
}
