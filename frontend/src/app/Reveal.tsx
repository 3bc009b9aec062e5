import { useEffect, useRef, type ReactNode } from 'react';

const NEAR = 80;

/** Brings the top of what appears below into view, if it appears right at the edge that the user is looking at. */
export function Reveal({ wanted, children }: { wanted: boolean; children: ReactNode }) {
  const mark = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = mark.current;
    if (!wanted || !element || element.getBoundingClientRect().top > window.innerHeight + NEAR) return;
    element.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    // Once, when it appears.
  }, []);
  return (
    <div className="relative">
      <div ref={mark} aria-hidden="true" className="pointer-events-none absolute top-0 h-[min(16rem,100%)] w-px scroll-mb-14" />
      {children}
    </div>
  );
}
