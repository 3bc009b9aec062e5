import { createContext, useCallback, useEffect, useRef, useState, type RefObject } from 'react';

const NEAR = 60;

/** Whether the user was at the bottom when what is now to be shown came. */
export const StuckContext = createContext<RefObject<boolean>>({ current: false });

interface Stick {
  box: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  /** At the bottom, as of the last scroll. */
  stuck: RefObject<boolean>;
  atBottom: boolean;
  toBottom: () => void;
}

/** Keeps a growing box at its bottom while `following`, unless the user has scrolled away from it. */
export function useStickToBottom(following: boolean): Stick {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const [atBottom, setAtBottom] = useState(true);

  const toBottom = useCallback(() => {
    stuck.current = true;
    box.current?.scrollTo({ top: box.current.scrollHeight });
  }, []);

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    let top = element.scrollTop;
    const look = () => {
      const near = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
      // Content that grew before this event came is no reason to let go; only going up is.
      stuck.current = near || (stuck.current && element.scrollTop >= top);
      top = element.scrollTop;
      setAtBottom(stuck.current);
    };
    element.addEventListener('scroll', look, { passive: true });
    return () => element.removeEventListener('scroll', look);
  }, []);

  useEffect(() => {
    if (!content.current || !following) return undefined;
    const watcher = new ResizeObserver(() => stuck.current && toBottom());
    watcher.observe(content.current);
    return () => watcher.disconnect();
  }, [following, toBottom]);

  return { box, content, stuck, atBottom, toBottom };
}
