//! What a crash test leaves behind: the lines that agent and worker logged, and what the test did to them.

use super::step::{Step, Who};

/// One event of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process is about to take a step.
    Step {
        /// Which process says so.
        who: Who,
        /// Which step.
        step: Step,
    },
    /// A process was killed (or ended in good order: the disk cannot tell).
    Killed(Who),
    /// A process was started.
    Started(Who),
    /// The machine lost power.
    PowerCut,
    /// A step or process that the architecture page does not know.
    Unknown(String),
}

/// An event and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// The line in the log, from 1.
    pub line: usize,
    /// The run that logged it; `None` for what the test did.
    pub run: Option<String>,
    /// What happened.
    pub event: Event,
}

/// The lines of a log that belong to a trace; all others are skipped.
///
/// Understood are tracing's JSON lines (`{"fields":{"step":"commit","who":"worker","run":"..."}}`), plain ones
/// (`step=commit who=worker run=...`, values quoted or not), and `killed agent`, `killed worker`, `started agent`,
/// `started worker`, `power cut`, each alone on its line.
pub fn parse_log(text: &str) -> Vec<TraceLine> {
    (1..).zip(text.lines()).filter_map(|(number, line)| parse_line(number, line.trim())).collect()
}

fn parse_line(number: usize, line: &str) -> Option<TraceLine> {
    if let Some(event) = deed(line) {
        return Some(TraceLine { line: number, run: None, event });
    }
    let field = |name| if line.starts_with('{') { json_field(line, name) } else { plain_field(line, name) };
    let step = field("step")?;
    let event = match (step.parse::<Step>(), field("who").map(|who| who.parse::<Who>())) {
        (Ok(step), None) => Event::Step { who: step.who(), step },
        (Ok(step), Some(Ok(who))) => Event::Step { who, step },
        (Err(unknown), _) | (_, Some(Err(unknown))) => Event::Unknown(unknown.0),
    };
    Some(TraceLine { line: number, run: field("run"), event })
}

fn deed(line: &str) -> Option<Event> {
    if line == "power cut" {
        return Some(Event::PowerCut);
    }
    let (deed, who) = line.split_once(' ')?;
    let who = who.parse().ok()?;
    match deed {
        "killed" => Some(Event::Killed(who)),
        "started" => Some(Event::Started(who)),
        _ => None,
    }
}

fn json_field(line: &str, name: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let field = value.get("fields").and_then(|fields| fields.get(name)).or_else(|| value.get(name))?;
    field.as_str().map(str::to_owned)
}

fn plain_field(line: &str, name: &str) -> Option<String> {
    line.split_whitespace().find_map(|word| {
        let value = word.strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim_matches('"').to_owned())
    })
}

/// The lines of one run, and what was done to the processes meanwhile.
pub fn of_run(trace: &[TraceLine], run: &str) -> Vec<TraceLine> {
    trace.iter().filter(|line| line.run.as_deref().is_none_or(|of| of == run)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_plain_lines_and_deeds_are_read_and_the_rest_is_skipped() {
        let log = r#"
{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","fields":{"message":"step","step":"record","who":"agent","run":"R1"},"target":"x"}
something else, 3 footsteps=9
2026-01-01 INFO flow: step="commit" who=worker run=R1
killed worker
{"fields":{"message":"no step"}}
step=nonsense run=R1
"#;
        let trace = parse_log(log);
        let run = Some("R1".to_owned());
        assert_eq!(
            trace,
            vec![
                TraceLine {
                    line: 2,
                    run: run.clone(),
                    event: Event::Step { who: Who::Agent, step: Step::Record }
                },
                TraceLine {
                    line: 4,
                    run: run.clone(),
                    event: Event::Step { who: Who::Worker, step: Step::Commit }
                },
                TraceLine { line: 5, run: None, event: Event::Killed(Who::Worker) },
                TraceLine { line: 7, run, event: Event::Unknown("nonsense".to_owned()) },
            ]
        );
    }
}
