//! Which packs a collection takes on.

use super::Standing;

/// What is known of an indexed pack. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackUse {
    pub(crate) name: String,
    /// Of the object.
    pub(crate) size: u64,
    /// Of the frames that are needed, each counted in one pack only.
    pub(crate) live: u64,
}

/// How far a collection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlanLimits {
    /// Packs of which a larger share is dead are written anew, in percent.
    pub(crate) dead_percent: u8,
    /// At most so many bytes are written anew.
    pub(crate) budget: u64,
    /// Packs smaller than this are joined with others, if there are several.
    pub(crate) small: u64,
}

/// What a collection is about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Packs that nobody needs.
    pub(crate) dead: Vec<PackUse>,
    /// Packs whose needed frames move to new ones, those with most garbage for each moved byte first.
    pub(crate) repack: Vec<PackUse>,
    /// Bytes that would be worth moving but are over the budget.
    pub(crate) postponed: u64,
}

impl Plan {
    /// Bytes of the packs that will go.
    pub(crate) fn removed(&self) -> u64 {
        self.dead.iter().chain(&self.repack).map(|p| p.size).sum()
    }

    /// Bytes that are written anew.
    pub(crate) fn moved(&self) -> u64 {
        self.repack.iter().map(|p| p.live).sum()
    }
}

/// Chooses from all indexed packs.
pub(crate) fn plan_packs(packs: Vec<PackUse>, limits: PlanLimits) -> Plan {
    let (dead, used): (Vec<_>, Vec<_>) = packs.into_iter().partition(|pack| pack.live == 0);
    let wasted = |pack: &PackUse| pack.size.saturating_sub(pack.live);
    // A pack's header, table and padding count as waste: small packs would always look like garbage.
    let worth = |pack: &PackUse| {
        wasted(pack).saturating_sub(pack.size / 16 + 4096) * 100
            > pack.size * u64::from(limits.dead_percent)
    };
    let (mut candidates, rest): (Vec<_>, Vec<_>) = used.into_iter().partition(worth);
    // Most garbage for each moved byte: a / b > c / d without fractions.
    candidates.sort_by(|a, b| {
        let (x, y) = (
            u128::from(wasted(a)) * u128::from(b.live),
            u128::from(wasted(b)) * u128::from(a.live),
        );
        y.cmp(&x).then_with(|| a.name.cmp(&b.name))
    });
    let mut small: Vec<PackUse> = rest.into_iter().filter(|p| p.size < limits.small).collect();
    for class in ["p/", "m/"] {
        let mut of_class: Vec<PackUse> = Vec::new();
        small.retain(|pack| {
            let same = pack.name.starts_with(class);
            if same {
                of_class.push(pack.clone());
            }
            !same
        });
        // Fewer would only be written anew to be small again.
        if of_class.len() >= SMALL_PACKS {
            of_class.sort_by(|a, b| (a.size, &a.name).cmp(&(b.size, &b.name)));
            candidates.extend(of_class);
        }
    }
    let mut plan = Plan {
        dead,
        ..Plan::default()
    };
    let mut left = limits.budget;
    for pack in candidates {
        if pack.live <= left {
            left -= pack.live;
            plan.repack.push(pack);
        } else {
            plan.postponed += pack.live;
        }
    }
    plan
}

/// So many small packs of a class are worth joining.
const SMALL_PACKS: usize = 16;

/// Of the packs that hold a needed chunk, those that must not be deleted: none if one of them lives, else
/// all that are condemned.
pub(crate) fn rescued<'a>(
    copies: impl Iterator<Item = (&'a str, Standing)> + Clone,
) -> impl Iterator<Item = &'a str> {
    let lives = copies.clone().any(|(_, s)| s == Standing::Live);
    copies
        .filter(move |(_, s)| !lives && *s == Standing::Condemned)
        .map(|(pack, _)| pack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(name: &str, size: u64, live: u64) -> PackUse {
        PackUse {
            name: name.to_owned(),
            size,
            live,
        }
    }

    const LIMITS: PlanLimits = PlanLimits {
        dead_percent: 40,
        budget: 10_000_000,
        small: 0,
    };

    fn names(packs: &[PackUse]) -> Vec<&str> {
        packs.iter().map(|pack| &*pack.name).collect()
    }

    #[test]
    fn the_emptiest_packs_are_moved_first_within_the_budget() {
        let packs = vec![
            pack("p/full", 10_000_000, 9_900_000),
            pack("p/half", 10_000_000, 5_000_000),
            pack("p/none", 10_000_000, 0),
            pack("p/tenth", 10_000_000, 1_000_000),
            pack("p/third", 10_000_000, 4_500_000),
        ];
        let plan = plan_packs(packs, LIMITS);
        assert_eq!(names(&plan.dead), ["p/none"]);
        assert_eq!(names(&plan.repack), ["p/tenth", "p/third"]);
        assert_eq!((plan.moved(), plan.postponed), (5_500_000, 5_000_000));
        assert_eq!(plan.removed(), 30_000_000);
    }

    #[test]
    fn small_packs_are_joined_when_there_are_many() {
        let many = |n: usize| (0..n).map(|i| pack(&format!("m/{i}"), 50_000, 45_000));
        let limits = PlanLimits {
            small: 1 << 20,
            ..LIMITS
        };
        assert_eq!(plan_packs(many(16).collect(), limits).repack.len(), 16);
        assert_eq!(plan_packs(many(15).collect(), limits).repack.len(), 0);
        assert_eq!(plan_packs(many(16).collect(), LIMITS).repack.len(), 0);
    }

    #[test]
    fn a_condemned_copy_is_rescued_only_if_no_other_lives() {
        use Standing::{Condemned, Dead, Live};
        let rescue = |copies: &[(&'static str, Standing)]| {
            rescued(copies.iter().copied()).collect::<Vec<_>>()
        };
        assert_eq!(rescue(&[("a", Condemned), ("b", Live)]), Vec::<&str>::new());
        assert_eq!(rescue(&[("a", Condemned), ("b", Dead)]), ["a"]);
        assert_eq!(rescue(&[("a", Condemned), ("b", Condemned)]), ["a", "b"]);
    }
}
