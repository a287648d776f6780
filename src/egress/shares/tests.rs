use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const CAP: Cap = Cap { per_second: 1.5, burst: 12, per_day: 1_000_000, concurrency: 6 };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A row of the database: the parts, and when it ends.
#[derive(Clone, Copy)]
struct Row {
    parts: u32,
    ends: Duration,
}

/// What a process asked of the database. Writes are executed in their order; a read may be executed at any time.
#[derive(Clone, Copy)]
enum Asked {
    Join(RowWrite),
    Renew(RowWrite, u32),
}

/// What the database answered.
enum Answer {
    Joined(RowWrite, u32, Option<Duration>),
    Renewed(RowWrite, u32),
    Ended(RowWrite),
    Read(Duration, Vec<u32>),
}

/// One process that uses the account.
struct Process {
    holder: u32,
    share: Share,
    bucket: Bucket,
    idle: Option<Duration>,
    /// The calls that are in flight.
    slots: u32,
    writes: VecDeque<Asked>,
    reads: Vec<Duration>,
    answers: VecDeque<Answer>,
}

impl Process {
    fn new(holder: u32) -> Process {
        let (share, bucket) = (Share::default(), bucket(&CAP, Some(Duration::ZERO), Duration::ZERO));
        let (writes, reads, answers) = Default::default();
        Process { holder, share, bucket, idle: None, slots: 0, writes, reads, answers }
    }

    /// As [`Share::observe`], and what follows from it, as the task that polls does it.
    fn observe(&mut self, began: Duration, others: &[u32], now: Duration) {
        let before = self.share.applied;
        self.share.observe(began, others, (self.slots, &CAP), now);
        match (before, self.share.applied) {
            (None, Some(parts)) => {
                let idle = if others.is_empty() { self.idle } else { Some(Duration::ZERO) };
                self.bucket = bucket(&part(&CAP, parts), idle, now);
            }
            (Some(old), Some(parts)) if old != parts => {
                let part = part(&CAP, parts);
                self.bucket.reshape_waiting(part.per_second, part.burst, now);
            }
            _ => {}
        }
        if let Some(rows) = self.share.unpublished(others.len())
            && (self.share.applied.is_none() || self.slots <= part(&CAP, rows).concurrency)
            && let Some((write, parts)) = self.share.renew(Some(rows), now)
        {
            self.writes.push_back(Asked::Renew(write, parts));
        }
    }
}

/// Several processes and their database, in virtual time.
struct World {
    now: Duration,
    rows: BTreeMap<u32, Row>,
    processes: Vec<Process>,
    holders: u32,
    calls: Vec<f64>,
    /// How often a process used a share of more than one part.
    divided: usize,
}

impl World {
    fn new(processes: u32) -> World {
        World {
            now: ms(100_000),
            rows: BTreeMap::new(),
            processes: (0..processes).map(Process::new).collect(),
            holders: processes,
            calls: Vec::new(),
            divided: 0,
        }
    }

    fn others(&self, holder: u32) -> Vec<u32> {
        self.rows.iter().filter(|(other, row)| **other != holder && row.ends > self.now).map(|(_, row)| row.parts).collect()
    }

    /// The database executes the next write of a process.
    fn execute(&mut self, index: usize) {
        let (holder, now) = (self.processes[index].holder, self.now);
        let Some(asked) = self.processes[index].writes.pop_front() else { return };
        let others = self.others(holder);
        let ends = now + HOLD;
        let answer = match asked {
            Asked::Join(write) => {
                let parts = u32::try_from(others.len()).unwrap() + 1;
                let idle = self.rows.values().map(|row| now.saturating_sub(row.ends)).min();
                self.rows.insert(holder, Row { parts, ends });
                Answer::Joined(write, parts, idle)
            }
            Asked::Renew(write, parts) => match self.rows.get_mut(&holder).filter(|row| row.ends > now) {
                Some(row) => {
                    *row = Row { parts, ends };
                    Answer::Renewed(write, parts)
                }
                None => Answer::Ended(write),
            },
        };
        self.processes[index].answers.push_back(answer);
    }

    /// A process receives an answer, or loses it.
    fn receive(&mut self, index: usize, lost: bool) {
        let now = self.now;
        let process = &mut self.processes[index];
        let Some(answer) = process.answers.pop_front() else { return };
        if lost {
            return;
        }
        match answer {
            Answer::Joined(write, parts, idle) => {
                process.idle = idle;
                process.share.written(write, parts, now);
            }
            Answer::Renewed(write, parts) => process.share.written(write, parts, now),
            Answer::Ended(write) => process.share.ended(write),
            Answer::Read(began, others) => process.observe(began, &others, now),
        }
    }

    /// A process does one thing.
    fn step(&mut self, index: usize, action: u8) {
        let now = self.now;
        let process = &mut self.processes[index];
        match action {
            // Asks what is due: joins, keeps its row, or reads those of the others.
            0..=2 if !process.share.is_held(now) => {
                let write = process.share.join(now);
                process.writes.push_back(Asked::Join(write));
            }
            0 => {
                if let Some((write, parts)) = process.share.renew(None, now) {
                    process.writes.push_back(Asked::Renew(write, parts));
                }
            }
            1 | 2 => process.reads.push(now),
            3..=5 => self.execute(index),
            6 | 7 => {
                if let Some(began) = process.reads.pop() {
                    let others = self.others(self.processes[index].holder);
                    self.processes[index].answers.push_back(Answer::Read(began, others));
                }
            }
            8..=11 => self.receive(index, false),
            12 => self.receive(index, true),
            13..=15 => {
                if process.share.parts(now).is_some() && process.bucket.reserve(now, Duration::ZERO).is_ok() {
                    self.calls.push(now.as_secs_f64());
                }
            }
            16 => {
                if process.share.parts(now).is_some_and(|parts| process.slots < part(&CAP, parts).concurrency) {
                    process.slots += 1;
                }
            }
            17 => process.slots = process.slots.saturating_sub(1),
            // Ends and is replaced by another process. Its row lives on.
            18 => {
                self.holders += 1;
                self.processes[index] = Process::new(self.holders);
            }
            // Time passes: everything that processes asked for and received waits.
            19 => self.now += ms(7_000),
            // Works without a fault for a moment.
            _ => {
                for action in [0, 3, 8, 1, 6, 8, 3, 8] {
                    self.step(index, action);
                }
            }
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let parts: Vec<u32> = self.processes.iter().filter_map(|process| process.share.parts(self.now)).collect();
        let used: f64 = parts.iter().map(|parts| 1.0 / f64::from(*parts)).sum();
        prop_assert!(used <= 1.0 + 1e-9, "the shares {parts:?} are more than the whole");
        let held = self.processes.iter().filter(|process| process.share.parts(self.now).is_some());
        let slots: u32 = held.map(|process| process.slots).sum();
        prop_assert!(slots <= CAP.concurrency, "{slots} calls at the same time");
        self.divided += usize::from(parts.len() > 1);
        Ok(())
    }

    /// No window of time has more calls than the burst and the rate allow.
    fn check_calls(&self) -> Result<(), TestCaseError> {
        for (first, from) in self.calls.iter().enumerate() {
            for (last, to) in self.calls.iter().enumerate().skip(first) {
                let (calls, allowed) = ((last - first + 1) as f64, f64::from(CAP.burst) + CAP.per_second * (to - from));
                prop_assert!(calls <= allowed + 1e-6, "{calls} calls within {} s", to - from);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever joins, leaves, hangs and gets late answers: the replicas together never use more than the limits.
    #[test]
    fn replicas_together_stay_within_the_limits(
        steps in proptest::collection::vec(
            (0_usize..4, prop_oneof![40 => 0_u8..18, 60 => 13_u8..18, 1 => 18_u8..20, 10 => Just(20)], 0_u64..120),
            200..1200,
        )
    ) {
        let mut world = World::new(4);
        for (index, action, pause) in steps {
            world.now += ms(pause);
            world.step(index, action);
            world.check()?;
        }
        world.check_calls()?;
    }
}

/// The property above says something only if replicas divide the limits in the histories that it tries.
#[test]
fn replicas_divide_the_limits_in_a_history_with_faults() {
    let (mut world, mut random) = (World::new(4), fastrand::Rng::with_seed(7));
    for _ in 0..20_000 {
        world.now += ms(random.u64(0..120));
        let action = if random.u8(0..100) < 20 { 20 } else { random.u8(0..18) };
        world.step(random.usize(0..4), action);
        world.check().unwrap();
    }
    world.check_calls().unwrap();
    assert!(world.divided > 5_000 && world.calls.len() > 1_000, "{} {}", world.divided, world.calls.len());
}

/// Without faults, each of the replicas gets its share, within two polls after the last one joined.
#[test]
fn each_replica_gets_its_share_and_gives_it_back() {
    let mut world = World::new(3);
    let poll = |world: &mut World, index: usize| {
        for action in [1, 3, 8, 1, 6, 8, 3, 8] {
            world.step(index, action);
            world.check().unwrap();
        }
    };
    poll(&mut world, 0);
    assert_eq!(world.processes[0].share.parts(world.now), Some(1), "one replica does not wait");
    poll(&mut world, 1);
    assert_eq!(world.processes[1].share.parts(world.now), None, "the other one waits until the first has lowered its share");
    for _ in 0..2 {
        world.now += ms(1000);
        (0..3).for_each(|index| poll(&mut world, index));
    }
    world.now += ms(1000);
    (0..3).for_each(|index| poll(&mut world, index));
    let parts = |world: &World| world.processes.iter().map(|process| process.share.parts(world.now)).collect::<Vec<_>>();
    assert_eq!(parts(&world), [Some(3); 3]);
    // The third one hangs. Its share is free once its row has ended, and it does not use it when it wakes.
    for _ in 0..20 {
        world.now += ms(1000);
        for index in 0..2 {
            for action in [0, 3, 8] {
                world.step(index, action);
            }
            poll(&mut world, index);
        }
    }
    assert_eq!(parts(&world), [Some(2), Some(2), None]);
}

#[test]
fn what_is_divided_is_at_least_one_call_and_the_rate_exactly() {
    let three = part(&CAP, 3);
    assert_eq!((three.burst, three.concurrency, three.per_day), (4, 2, 1_000_000));
    assert!((three.per_second * 3.0 - CAP.per_second).abs() < 1e-9);
    let many = part(&CAP, 50);
    assert_eq!((many.burst, many.concurrency), (1, 1));
}
