//! Steps and how long they take, on standard error: redrawn in place on a terminal,
//! else a line when a step begins, now and then while it lasts, and when it is done.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often running steps are redrawn on a terminal.
const REDRAW: Duration = Duration::from_millis(500);
/// How often a running step is told of where there is no terminal.
const RETELL: Duration = Duration::from_secs(15);

/// What became of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The step, such as `kwok v0.8.0` or `aws-us-east-1: control plane`.
    pub step: String,
    /// How long it took; of a step that still runs, how long it has taken so far.
    pub took: Duration,
}

#[derive(Debug)]
struct Task {
    name: String,
    detail: String,
    started: Instant,
    told: Instant,
    took: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    tasks: Vec<Task>,
    drawn: usize,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    terminal: bool,
    silent: bool,
}

/// A board of steps that run side by side. Clones share it; the last one takes it down.
#[derive(Debug, Clone)]
pub struct Progress {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

#[derive(Debug)]
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.wake.notify_all();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic elsewhere must not hide the progress of what still runs.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// A board on standard error.
    pub fn stderr() -> Self {
        Self::new(std::io::stderr().is_terminal(), false)
    }

    /// A board that only measures.
    pub fn silent() -> Self {
        Self::new(false, true)
    }

    fn new(terminal: bool, silent: bool) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), terminal, silent });
        if !silent {
            let shared = shared.clone();
            std::thread::spawn(move || shared.draw_until_closed());
        }
        Self { _closer: Arc::new(Closer(shared.clone())), shared }
    }

    /// Begins a step. It is over when the value that is returned is dropped.
    pub fn step(&self, name: impl Into<String>) -> Step {
        let now = Instant::now();
        let mut state = lock(&self.shared.state);
        state.tasks.push(Task {
            name: name.into(),
            detail: String::new(),
            started: now,
            told: now,
            took: None,
        });
        Step { board: self.clone(), index: state.tasks.len() - 1, done: false }
    }

    /// Notes a step that was measured elsewhere, and prints it like any other.
    pub fn note(&self, name: impl Into<String>, took: Duration) {
        let now = Instant::now();
        let task =
            Task { name: name.into(), detail: String::new(), started: now, told: now, took: Some(took) };
        self.say(line("✓", &task).trim_end());
        lock(&self.shared.state).tasks.push(task);
    }

    /// Prints a line above the running steps.
    pub fn say(&self, line: &str) {
        if self.shared.silent {
            return;
        }
        let mut state = lock(&self.shared.state);
        let mut out = String::new();
        self.shared.clear(&mut state, &mut out);
        out.push_str(line);
        out.push('\n');
        write_stderr(&out);
    }

    /// All steps so far in the order in which they began.
    pub fn timings(&self) -> Vec<Timing> {
        lock(&self.shared.state)
            .tasks
            .iter()
            .map(|task| Timing {
                step: task.name.clone(),
                took: task.took.unwrap_or_else(|| task.started.elapsed()),
            })
            .collect()
    }
}

impl Shared {
    fn draw_until_closed(&self) {
        let mut state = lock(&self.state);
        while !state.closed {
            let mut out = String::new();
            if self.terminal {
                self.clear(&mut state, &mut out);
                for task in state.tasks.iter().filter(|task| task.took.is_none()) {
                    out.push_str(&line("…", task));
                }
                state.drawn = out.matches('\n').count();
            } else {
                for task in state.tasks.iter_mut().filter(|task| task.took.is_none()) {
                    if task.told.elapsed() >= RETELL {
                        task.told = Instant::now();
                        out.push_str(&line("…", task));
                    }
                }
            }
            write_stderr(&out);
            state = self.wake.wait_timeout(state, REDRAW).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut out = String::new();
        self.clear(&mut state, &mut out);
        write_stderr(&out);
    }

    /// Moves to where the running steps were drawn and wipes them.
    fn clear(&self, state: &mut State, out: &mut String) {
        if state.drawn > 0 {
            out.push_str(&format!("\x1b[{}A\x1b[J", state.drawn));
            state.drawn = 0;
        }
    }
}

fn write_stderr(out: &str) {
    if !out.is_empty() {
        // There is nobody to tell when standard error itself is closed.
        let _ = std::io::stderr().write_all(out.as_bytes());
    }
}

fn line(mark: &str, task: &Task) -> String {
    let took = task.took.unwrap_or_else(|| task.started.elapsed());
    let gap = if task.detail.is_empty() { "" } else { "  " };
    format!("{:>7}  {mark} {}{gap}{}\n", seconds(took), task.name, task.detail)
}

/// A duration as people say it: `0.4 s`, `12.3 s`, `6:31` in minutes.
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = duration.as_secs();
        format!("{}:{:02}", whole / 60, whole % 60)
    }
}

/// A step that runs.
#[derive(Debug)]
pub struct Step {
    board: Progress,
    index: usize,
    done: bool,
}

impl Step {
    /// Says how far it is, such as `412 of about 900 packages`.
    pub fn detail(&self, detail: impl Into<String>) {
        lock(&self.board.shared.state).tasks[self.index].detail = detail.into();
    }

    /// Ends it well.
    pub fn done(mut self) {
        self.finish("✓");
    }

    fn finish(&mut self, mark: &str) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let shared = &self.board.shared;
        let mut state = lock(&shared.state);
        let mut out = String::new();
        shared.clear(&mut state, &mut out);
        let task = &mut state.tasks[self.index];
        task.took = Some(task.started.elapsed());
        out.push_str(&line(mark, task));
        if !shared.silent {
            write_stderr(&out);
        }
        drop(state);
        shared.wake.notify_all();
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.finish("✗");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        assert_eq!(seconds(Duration::from_millis(440)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs_f64(99.94)), "99.9 s");
        assert_eq!(seconds(Duration::from_secs(391)), "6:31");
    }

    #[test]
    fn steps_are_measured_in_the_order_in_which_they_began() {
        let progress = Progress::silent();
        let first = progress.step("first");
        let second = progress.step("second");
        second.done();
        std::thread::sleep(Duration::from_millis(5));
        first.done();
        let timings = progress.timings();
        assert_eq!(timings[0].step, "first");
        assert_eq!(timings[1].step, "second");
        assert!(timings[0].took > timings[1].took);
    }
}
