/** Microseconds of native runs that one turn of the event loop may do itself; what comes after them goes to the native thread. */
const most = 4000;

let spent = 0;
let ends = false;

/** Whether this turn of the event loop has room for a run of so many microseconds. */
export const turnHasRoom = (microseconds: number): boolean => spent + microseconds <= most;

/** Counts a run that was done on this thread. */
export function spendTurn(microseconds: number): void {
  spent += microseconds;
  if (ends) return;
  ends = true;
  setImmediate(() => {
    ends = false;
    spent = 0;
  });
}
