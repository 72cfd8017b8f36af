//! What was logged and done, as one trace for the model.

use mailready_tests::lab::Daemon;
use mailready_tests::model::replay::replay;
use mailready_tests::model::trace::parse_log;

/// The logs of agents that followed one upon the other. The tracer has written each death between the lines; an agent that was
/// asked to end is as dead as a killed one, for all the disk can tell.
///
/// # Errors
/// The line that is on no path of the model, and the whole log.
pub fn check(agents: &[Vec<String>]) -> Result<(), String> {
    let mut text: Vec<String> = Vec::new();
    for agent in agents {
        // Who dies before the first step has changed nothing that the model knows of.
        if !agent.iter().any(|line| line.contains("step")) {
            continue;
        }
        if !text.is_empty() {
            if !ends_with_a_dead_agent(&text) {
                text.push("killed agent".into());
            }
            text.push("started agent".into());
        }
        text.extend(noticed(agent));
    }
    // One line an entry. A tombstone that a dead agent made and never used is one, too, and the model does not see that go.
    let is_forget = |line: &String| line.contains("\"step\":\"forget\"");
    text.dedup_by(|line, before| is_forget(line) && is_forget(before));
    let text = text.join("\n");
    replay(&parse_log(&text)).map_err(|error| format!("{error}; the log was\n{text}"))
}

/// To the model, an agent notices the death of its worker at once, and lets go of its locks with it. A real one notices when it
/// next has a word for the worker, or to hear from it, and what it does until then needs no worker: so the death is told
/// behind that, and without the unlocking that comes of it.
fn noticed(lines: &[String]) -> Vec<String> {
    let mut told = Vec::new();
    let mut rest = lines;
    while let Some((line, after)) = rest.split_first() {
        rest = after;
        if line != "killed worker" {
            told.push(line.clone());
            continue;
        }
        let alone = after.iter().take_while(|line| line.contains("\"who\":\"agent\"")).count();
        let (unnoticed, others) = after.split_at(alone);
        let to_the_end = unnoticed.iter().any(|line| line.contains("\"step\":\"converted\""));
        let goes = |line: &&String| to_the_end || !line.contains("\"step\":\"unlock\"");
        told.extend(unnoticed.iter().filter(goes).cloned());
        told.push(line.clone());
        rest = others;
    }
    told
}

/// Whether the last agent was killed: behind its death there can only be lines of an orphaned worker.
fn ends_with_a_dead_agent(text: &[String]) -> bool {
    text.iter().rev().find(|line| line.ends_with(" agent")).is_some_and(|line| line == "killed agent")
}

/// Steps that the model has no part of its own for: it knows one mailbox, so what is done to folders happens within the steps of the inbox, and reading the stage
/// back is a part of `stage`.
const WITHIN_OTHERS: [&str; 8] = [
    "verify",
    "folder_tombstone",
    "lock_folders",
    "set_aside_folder",
    "sync_set_aside_folders",
    "unlock_folders",
    "rotate_folder",
    "forget_folder",
];

/// The lines that tell of a step or a death.
pub fn lines(agent: &Daemon) -> Vec<String> {
    let mut agent_is_dead = false;
    // A child of the agent that is not a worker yet bears the agent's name, and has an obituary of its own.
    let is_first = |line: &String| line != "killed agent" || !std::mem::replace(&mut agent_is_dead, true);
    let all = agent.log.lines().into_iter().map(|line| line.text);
    let step =
        |line: &str| line.strip_prefix("step=").and_then(|rest| rest.split(' ').next().map(str::to_owned));
    all.filter(|line| step(line).is_none_or(|step| !WITHIN_OTHERS.contains(&step.as_str())))
        .filter_map(|line| match line.as_str() {
            "killed mailready-agent" => Some("killed agent".into()),
            "killed mailready-worker" => Some("killed worker".into()),
            _ => line.contains("step").then_some(line),
        })
        .filter(is_first)
        .collect()
}
