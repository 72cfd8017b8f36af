//! Explores a scenario to its end and says what was found.
//!
//! Two explorers: stateright, which others have proven, checks the properties of single states; the one here keeps the
//! whole graph, gives shortest counterexamples, and checks besides that everything *can* come to rest, by walking the
//! graph backwards. stateright's `eventually` can miss counterexamples where paths meet or form a cycle (its own tests
//! say so), and the protocol has cycles: it backs off. Both must count the same states.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use stateright::{Checker, Model};

use super::machine::Action;
use super::properties;
use super::spec::Spec;
use super::world::World;

/// The name of the property that is checked here and not by stateright.
pub const CAN_REST: &str = "it can always come to rest";

/// A property that does not hold, and the shortest way to see it.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The scenario.
    pub scenario: &'static str,
    /// The property's name.
    pub property: &'static str,
    /// What happened, from the beginning.
    pub path: Vec<Action>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not so: {} [{}]:", self.property, self.scenario)?;
        self.path.iter().try_for_each(|action| write!(f, " {}", brief(*action)))
    }
}

fn brief(action: Action) -> String {
    match action {
        Action::Take(step) => step.to_string(),
        Action::BackOff(step) => format!("BACK-OFF({step})"),
        Action::GiveUp(step) => format!("GIVE-UP({step})"),
        Action::Orphan(step) => format!("orphan:{step}"),
        Action::Undo(act) => format!("{act:?}").to_lowercase(),
        Action::Drain(act) => format!("{act:?}").to_lowercase(),
        Action::Deliverer(who) => format!("D{who}"),
        Action::Session(act) => format!("S:{act:?}"),
        Action::PowerCut { spool, home } => format!("POWER-CUT(spool {spool}, home {home})"),
        Action::KillAgent => "KILL-AGENT".to_owned(),
        Action::KillWorker => "KILL-WORKER".to_owned(),
        other => format!("{other:?}"),
    }
}

/// What an exploration came to.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// How long it took.
    pub took: Duration,
    /// The first property found not to hold.
    pub counterexample: Option<Counterexample>,
}

/// Explores all of a scenario, or up to the first counterexample.
pub fn explore(spec: &Spec) -> Explored {
    let began = Instant::now();
    let mut graph = Graph::new(spec);
    let counterexample = graph.explore().or_else(|| graph.cannot_rest());
    Explored { states: graph.worlds.len(), took: began.elapsed(), counterexample }
}

/// The same by stateright: number of states, and the name of a property that does not hold.
pub fn explore_by_stateright(spec: &Spec) -> (usize, Option<&'static str>) {
    let checker = spec.clone().checker().spawn_bfs().join();
    (checker.unique_state_count(), checker.discoveries().into_keys().min())
}

struct Graph<'a> {
    spec: &'a Spec,
    /// By their hash, so that growing never hashes a world again.
    index: HashMap<u64, Vec<usize>>,
    worlds: Vec<Rc<World>>,
    came_by: Vec<Option<(usize, Action)>>,
    /// From where each state is reached otherwise than by accident.
    before: Vec<Vec<usize>>,
    resting: Vec<usize>,
}

impl<'a> Graph<'a> {
    fn new(spec: &'a Spec) -> Graph<'a> {
        Graph {
            spec,
            index: HashMap::new(),
            worlds: Vec::new(),
            came_by: Vec::new(),
            before: Vec::new(),
            resting: Vec::new(),
        }
    }

    fn see(&mut self, world: World, came_by: Option<(usize, Action)>) -> usize {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        let same_hash = self.index.entry(hasher.finish()).or_default();
        if let Some(known) = same_hash.iter().find(|known| *self.worlds[**known] == world) {
            return *known;
        }
        same_hash.push(self.worlds.len());
        self.worlds.push(Rc::new(world));
        self.came_by.push(came_by);
        self.before.push(Vec::new());
        self.worlds.len() - 1
    }

    /// Breadth first: what is found first is found by a shortest path.
    fn explore(&mut self) -> Option<Counterexample> {
        self.see(World::new(self.spec), None);
        let mut here = 0;
        while let Some(world) = self.worlds.get(here).map(Rc::clone) {
            let actions = self.spec.possible(&world);
            let at_rest = actions.iter().all(|action| action.is_accident());
            if let Some(property) = properties::broken(self.spec, &world, at_rest) {
                return Some(self.counterexample(property, here));
            }
            if at_rest {
                self.resting.push(here);
            }
            for action in actions {
                let there = self.see(self.spec.after(&world, action), Some((here, action)));
                if !action.is_accident() {
                    self.before[there].push(here);
                }
            }
            here += 1;
        }
        None
    }

    /// A state from which no state at rest can be reached.
    fn cannot_rest(&self) -> Option<Counterexample> {
        let mut can = vec![false; self.worlds.len()];
        let mut from = self.resting.clone();
        while let Some(state) = from.pop() {
            if !std::mem::replace(&mut can[state], true) {
                from.extend(&self.before[state]);
            }
        }
        let stuck = can.iter().position(|can| !can)?;
        Some(self.counterexample(CAN_REST, stuck))
    }

    fn counterexample(&self, property: &'static str, mut state: usize) -> Counterexample {
        let mut path = Vec::new();
        while let Some((from, action)) = self.came_by[state] {
            path.push(action);
            state = from;
        }
        path.reverse();
        Counterexample { scenario: self.spec.name, property, path }
    }
}
