//! Whatever comes in whatever order: no ceiling is passed, and the sums are right in the end.

use proptest::prelude::*;

use super::*;

const RULES: &str = "
keys:
  - {name: k0, key: sk-test-0123456789abcdef, tags: {team: a, user: u0}, budget: [{usd: 0.000000100, per: month}, {usd: 0.000000060, per: lifetime}]}
  - {name: k1, key: sk-test-1123456789abcdef, tags: {team: a, user: u1}, budget: {usd: 0.000000080, per: {rolling: 30d}}}
  - {name: k2, key: sk-test-2123456789abcdef, tags: {team: b, user: u1}}
budgets:
  - {match: {team: a}, usd: 0.000000120, per: month}
  - {match: {user: \"*\"}, usd: 0.000000090, per: lifetime}
  - {usd: 0.000000200, per: lifetime}
";

#[derive(Debug, Clone)]
enum Step {
    Admit { key: usize, cost: i64 },
    Settle { hold: usize, share: i64 },
    Unknown { hold: usize },
    Drop { hold: usize },
    Wait { minutes: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..3, 0i64..60).prop_map(|(key, cost)| Step::Admit { key, cost }),
        3 => (any::<usize>(), 0i64..=100).prop_map(|(hold, share)| Step::Settle { hold, share }),
        1 => any::<usize>().prop_map(|hold| Step::Unknown { hold }),
        2 => any::<usize>().prop_map(|hold| Step::Drop { hold }),
        1 => (0u64..600).prop_map(|minutes| Step::Wait { minutes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_steps_passes_a_ceiling_or_loses_a_sum(steps in prop::collection::vec(step(), 1..120)) {
        // early in a month, so that the steps stay in it
        let world = World::at(RULES, "2026-05-01T00:00:00Z");
        let mut holds: Vec<(usize, CostHold)> = Vec::new();
        let mut settled = [0i64; 3];
        for step in steps {
            match step {
                Step::Admit { key, cost } => {
                    let who = world.who(&format!("k{key}"));
                    holds.extend(world.attempt(&who, NanoUsd(cost)).ok().map(|hold| (key, hold)));
                }
                Step::Settle { hold, share } if !holds.is_empty() => {
                    let (key, hold) = holds.swap_remove(hold % holds.len());
                    let cost = hold.cost().unwrap().0 * share / 100;
                    hold.settle(Some(NanoUsd(cost)), None);
                    settled[key] += cost;
                }
                Step::Unknown { hold } if !holds.is_empty() => {
                    let (key, hold) = holds.swap_remove(hold % holds.len());
                    settled[key] += hold.settle(None, None).cost.unwrap().0;
                }
                Step::Drop { hold } if !holds.is_empty() => drop(holds.swap_remove(hold % holds.len())),
                Step::Wait { minutes } => world.wait(60.0 * f64::from(u32::try_from(minutes).unwrap()) / 10.0),
                _ => {}
            }
            for shown in world.quotas.show() {
                prop_assert!(shown.spent.0 + shown.held.0 <= shown.ceiling.0, "{shown:?}");
            }
        }
        drop(holds);
        let shown = world.quotas.show();
        let of = |name: &str| shown.iter().find(|shown| shown.name == name).map_or((0, 0), |s| (s.spent.0, s.held.0));
        prop_assert_eq!(of("budget of key=k0 per month"), (settled[0], 0));
        prop_assert_eq!(of("budget of key=k0 in all"), (settled[0], 0));
        prop_assert_eq!(of("budget of key=k1 in 30d"), (settled[1], 0));
        prop_assert_eq!(of("budget of team=a per month"), (settled[0] + settled[1], 0));
        prop_assert_eq!(of("budget of user=u1 in all"), (settled[1] + settled[2], 0));
        prop_assert_eq!(of("budget of everybody in all"), (settled.iter().sum(), 0));
    }
}
