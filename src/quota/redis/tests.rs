//! Leases and scripts against each other on a real server, step by step: whatever is lost, late or said twice, no ceiling is passed.

use proptest::prelude::*;

use super::lease::{Ask, Lease, Link};
use super::script::{Scripts, answer};
use super::{Line, Settings, Shared};
use crate::config::Secret;
use crate::config::quota::{Measure, Rule, Scope, Window};
use crate::quota::clock::Now;
use crate::quota::counter::Took;
use crate::quota::tests::server::Server;

const REPLICAS: usize = 3;
const CEILING: i64 = 100;
const UP: Link = Link { up: true, replicas: 3 };

#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// The server has heard it, and its answer is lost.
    Unanswered,
    /// The server hears it some time later.
    Late,
    Lost,
}

#[derive(Debug, Clone)]
enum Step {
    Take {
        at: usize,
        amount: i64,
    },
    Settle {
        at: usize,
        hold: usize,
        share: i64,
    },
    Drop {
        at: usize,
        hold: usize,
    },
    Exchange {
        at: usize,
        fate: Fate,
    },
    /// What was on its way arrives.
    Arrive {
        which: usize,
    },
    Beat {
        at: usize,
    },
    Wait {
        micros: i64,
    },
}

struct World<'a> {
    scripts: Scripts,
    shared: Vec<Shared>,
    line: Box<Line>,
    leases: Vec<Lease>,
    holds: Vec<Vec<(i64, i64)>>,
    /// By replica; of a rate, all that was used and not given back.
    settled: Vec<i64>,
    late: Vec<(usize, Ask)>,
    now: Now,
    rule: Rule,
    connection: &'a mut redis::Connection,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..REPLICAS;
    let fate = prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::Late),
        1 => Just(Fate::Lost),
    ];
    prop_oneof![
        6 => (at.clone(), 1i64..30).prop_map(|(at, amount)| Step::Take { at, amount }),
        3 => (at.clone(), any::<usize>(), 0i64..=100).prop_map(|(at, hold, share)| Step::Settle { at, hold, share }),
        1 => (at.clone(), any::<usize>()).prop_map(|(at, hold)| Step::Drop { at, hold }),
        6 => (at.clone(), fate).prop_map(|(at, fate)| Step::Exchange { at, fate }),
        1 => any::<usize>().prop_map(|which| Step::Arrive { which }),
        1 => at.prop_map(|at| Step::Beat { at }),
        2 => (0i64..2_000_000).prop_map(|micros| Step::Wait { micros }),
    ]
}

impl<'a> World<'a> {
    fn new(rule: Rule, connection: &'a mut redis::Connection) -> Self {
        let settings = |n: usize| {
            let mut settings = Settings::new(Secret::new("redis://127.0.0.1".to_owned()));
            settings.quarantine = std::time::Duration::ZERO;
            // every case has counters of its own
            (n, settings)
        };
        let prefix = format!("{:x}", getrandom::u64().unwrap());
        let shared: Vec<Shared> = (0..REPLICAS)
            .map(settings)
            .map(|(_, settings)| Shared::new(Settings { prefix: prefix.clone(), ..settings }).unwrap())
            .collect();
        let now = Now { mono: 1_000_000, wall: 1_000_000 };
        World {
            scripts: Scripts::new(),
            line: shared[0].line(rule.id, ""),
            shared,
            leases: (0..REPLICAS).map(|_| Lease::new(&rule, now)).collect(),
            holds: vec![Vec::new(); REPLICAS],
            settled: vec![0; REPLICAS],
            late: Vec::new(),
            now,
            rule,
            connection,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Take { at, amount } => {
                if let Took::Taken(slip) = self.leases[at].take(&self.rule, amount, self.now, UP) {
                    self.holds[at].push((slip, amount));
                }
            }
            Step::Settle { at, hold, share } if !self.holds[at].is_empty() => {
                let (slip, held) = self.pick(at, hold);
                let used = if self.rule.of == Measure::Concurrency { 0 } else { held * share / 100 };
                self.leases[at].settle(&self.rule, slip, held, used, self.now);
                self.settled[at] += used;
            }
            Step::Drop { at, hold } if !self.holds[at].is_empty() => {
                let (slip, held) = self.pick(at, hold);
                self.leases[at].settle(&self.rule, slip, held, 0, self.now);
            }
            Step::Exchange { at, fate } => self.exchange(at, fate),
            Step::Arrive { which } if !self.late.is_empty() => {
                let (at, ask) = self.late.swap_remove(which % self.late.len());
                self.run(at, &ask);
            }
            Step::Beat { at } => self.leases[at].beat(),
            Step::Wait { micros } => {
                self.now = Now { mono: self.now.mono + micros, wall: self.now.wall + micros };
            }
            Step::Settle { .. } | Step::Drop { .. } | Step::Arrive { .. } => {}
        }
    }

    fn pick(&mut self, at: usize, hold: usize) -> (i64, i64) {
        let place = hold % self.holds[at].len();
        self.holds[at].swap_remove(place)
    }

    fn exchange(&mut self, at: usize, fate: Fate) {
        let Some(ask) = self.leases[at].ask(&self.rule, self.now) else { return };
        let answer = match fate {
            Fate::Answered => self.run(at, &ask),
            Fate::Unanswered => {
                self.run(at, &ask);
                None
            }
            Fate::Late => {
                self.late.push((at, ask.clone()));
                None
            }
            Fate::Lost => None,
        };
        match answer {
            Some(answer) => drop(self.leases[at].hear(&self.rule, &ask, &answer, self.now)),
            None => self.leases[at].miss(&self.rule, &ask),
        }
    }

    fn run(&mut self, at: usize, ask: &Ask) -> Option<super::lease::Answer> {
        let question = self.scripts.question(&self.shared[at], &self.line, &self.rule, ask, self.now);
        let said: Vec<i64> = question.invoke(self.connection).expect("an answer");
        answer(&self.rule, &said)
    }

    fn used(&self) -> i64 {
        let held = self.holds.iter().flatten().map(|(_, amount)| amount).sum::<i64>();
        held + self.settled.iter().sum::<i64>()
    }
}

fn server() -> (Server, redis::Connection) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    (server, connection)
}

fn holds_whatever_comes(of: Measure, window: &Window, end: impl Fn(&mut World<'_>)) {
    let (_server, connection) = server();
    let connection = std::cell::RefCell::new(connection);
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(step(), 1..120), |steps| {
        let mut connection = connection.borrow_mut();
        let rule = Rule::new(Scope::default(), of, CEILING, window.clone());
        let mut world = World::new(rule, &mut connection);
        for step in steps {
            world.step(step);
            prop_assert!(world.used() <= CEILING, "{} used", world.used());
        }
        end(&mut world);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// All holds are settled, everything is said: the server knows the sum, and nothing is stranded.
fn all_is_told(world: &mut World<'_>) {
    for at in 0..REPLICAS {
        while let Some((slip, held)) = world.holds[at].pop() {
            world.leases[at].settle(&world.rule, slip, held, 0, world.now);
        }
    }
    for _ in 0..3 {
        for at in 0..REPLICAS {
            world.step(Step::Wait { micros: 1_000_000 });
            world.leases[at].close();
            world.exchange(at, Fate::Answered);
        }
    }
    let sum: i64 = world.settled.iter().sum();
    for at in 0..REPLICAS {
        assert_eq!((world.leases[at].seen.spent, world.leases[at].seen.used), (sum, sum));
    }
}

#[test]
fn no_loss_of_questions_or_answers_passes_a_budget_or_strands_its_money() {
    holds_whatever_comes(Measure::Usd, &Window::Lifetime, all_is_told);
}

#[test]
fn no_loss_of_questions_or_answers_passes_a_rolling_budget() {
    let window = Window::Rolling(std::time::Duration::from_secs(30 * 24 * 3600));
    holds_whatever_comes(Measure::Usd, &window, all_is_told);
}

#[test]
fn no_loss_of_questions_or_answers_lets_more_calls_run_at_once() {
    holds_whatever_comes(Measure::Concurrency, &Window::Now, all_is_told);
}

#[test]
fn no_loss_of_questions_or_answers_passes_a_rate() {
    // a hundred in a day: what fills up meanwhile is less than one
    let window = Window::Rate { every: std::time::Duration::from_secs(24 * 3600), burst: CEILING };
    holds_whatever_comes(Measure::Tokens, &window, |_| {});
}
