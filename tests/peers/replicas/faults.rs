//! The faults of a run. What happens in which order to which replica follows from the seed alone.

use std::fmt;
use std::time::Duration;

/// The lease of a partition.
pub const LEASE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL and a restart.
    Kill,
    /// SIGSTOP for a shorter time than the lease.
    StopShort,
    /// SIGSTOP for longer than the lease.
    StopLong,
    /// All sessions with the database end, and new ones are possible.
    Cut,
    /// All sessions end and new ones are refused for a while.
    Refuse,
    /// The sessions stay, and nothing passes, for a shorter time than the lease.
    StallShort,
    /// The same for longer than the lease.
    StallLong,
    /// The clock of the replica is off by an hour.
    Clock,
    /// The primary is killed, its standby is promoted, and a new standby is built.
    FailOver,
    /// The disk of the primary is full for a while.
    DiskFull,
}

impl Kind {
    /// Whether it concerns the database and not one replica.
    pub fn is_of_database(self) -> bool {
        matches!(self, Kind::FailOver | Kind::DiskFull)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Kill => "kill -9 and restart",
            Kind::StopShort => "SIGSTOP, shorter than the lease",
            Kind::StopLong => "SIGSTOP, longer than the lease",
            Kind::Cut => "sessions cut",
            Kind::Refuse => "sessions cut and refused",
            Kind::StallShort => "sessions stalled, shorter than the lease",
            Kind::StallLong => "sessions stalled, longer than the lease",
            Kind::Clock => "clock off by an hour",
            Kind::FailOver => "primary killed, standby promoted",
            Kind::DiskFull => "disk of the primary full",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub replica: usize,
    /// How long it lasts.
    pub hold: Duration,
    /// Whether the next fault begins while this one lasts.
    pub overlaps: bool,
    /// Whether a clock is slow and not fast.
    pub is_slow: bool,
}

/// Each kind with its share in a hundred, and how long it lasts in ms.
const SHARES: [(Kind, u32, std::ops::RangeInclusive<u64>); 10] = [
    (Kind::Kill, 24, 0..=3000),
    (Kind::StopShort, 13, 500..=12_000),
    (Kind::StopLong, 6, 16_500..=22_000),
    (Kind::Cut, 18, 0..=0),
    (Kind::Refuse, 9, 500..=8000),
    (Kind::StallShort, 10, 500..=10_000),
    (Kind::StallLong, 4, 16_500..=20_000),
    (Kind::Clock, 6, 1000..=10_000),
    (Kind::FailOver, 6, 0..=0),
    (Kind::DiskFull, 4, 1000..=5000),
];

/// The faults of the run with this seed. The first ones are one of each kind, in an order of the seed, so that a short run has all.
pub fn schedule(seed: u64, count: usize, replicas: usize, has_disks: bool) -> Vec<Fault> {
    let mut random = fastrand::Rng::with_seed(seed);
    let shares: Vec<_> = SHARES.iter().filter(|(kind, ..)| has_disks || *kind != Kind::DiskFull).collect();
    let mut first: Vec<usize> = (0..shares.len()).collect();
    random.shuffle(&mut first);
    let sum: u32 = shares.iter().map(|(_, share, _)| share).sum();
    let mut faults = Vec::with_capacity(count);
    for number in 0..count {
        let mut ticket = random.u32(..sum);
        let drawn = shares.iter().position(|(_, share, _)| match ticket.checked_sub(*share) {
            Some(rest) => {
                ticket = rest;
                false
            }
            None => true,
        });
        let index = first.get(number).copied().or(drawn).expect("the shares cover all tickets");
        let (kind, _, hold) = shares[index];
        faults.push(Fault {
            kind: *kind,
            replica: random.usize(..replicas),
            hold: Duration::from_millis(random.u64(hold.clone())),
            overlaps: random.u8(..100) < 40,
            is_slow: random.bool(),
        });
    }
    faults
}
