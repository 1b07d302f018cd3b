//! The rows of docs/SECURITY.md that are not tried from inside, and why. A test of the threats suite compares both.

use std::{fmt, ops::RangeInclusive};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// Rows that have a reason in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Why nothing inside can show them.
    pub why: &'static str,
    /// Their groups, and which of these.
    ranges: &'static [(char, RangeInclusive<u8>)],
}

/// Every row without a probe.
pub const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        why: LIMIT,
        ranges: &[('A', 3..=3), ('A', 16..=16), ('C', 8..=8), ('H', 15..=15)],
    },
    LeftOut {
        why: CLUSTER,
        ranges: &[('B', 18..=18), ('B', 20..=20)],
    },
    LeftOut {
        why: "needs a model host, which would bill where one was open",
        ranges: &[
            ('A', 2..=2),
            ('A', 17..=17),
            ('C', 14..=14),
            ('D', 9..=9),
            ('D', 11..=11),
            ('D', 14..=17),
            ('F', 18..=19),
            ('G', 1..=1),
            ('G', 4..=4),
            ('H', 1..=9),
            ('H', 11..=14),
            ('H', 17..=17),
            ('I', 1..=4),
            ('I', 6..=8),
            ('J', 5..=5),
        ],
    },
    LeftOut {
        why: "needs an allowed host whose owner plays a part",
        ranges: &[
            ('A', 13..=13),
            ('B', 23..=23),
            ('C', 2..=2),
            ('C', 6..=7),
            ('C', 9..=9),
            ('C', 13..=13),
        ],
    },
    LeftOut {
        why: "needs an image or a task that was made for it",
        ranges: &[('B', 2..=2), ('B', 4..=4), ('B', 27..=27)],
    },
    LeftOut {
        why: "is over before anything inside runs",
        ranges: &[('B', 13..=13), ('B', 15..=17)],
    },
    LeftOut {
        why: "needs the operator's hand: another phase, a dead proxy, a stepped clock",
        ranges: &[('B', 14..=14), ('B', 21..=21), ('J', 3..=3)],
    },
    LeftOut {
        why: "would load the machine: tens of thousands of connections, a full disk",
        ranges: &[('J', 1..=2)],
    },
];

/// The verdict `limit` there.
pub const LIMIT: &str = "stays a limit: docs/SECURITY.md";
/// The verdict `live` there.
pub const CLUSTER: &str = "needs a real cluster: assay doctor --cluster";

impl LeftOut {
    /// The rows one by one.
    pub fn rows(&self) -> impl Iterator<Item = String> {
        let each = |(group, numbers): &'static (char, RangeInclusive<u8>)| {
            numbers.clone().map(move |number| format!("{group}{number}"))
        };
        self.ranges.iter().flat_map(each)
    }
}

/// Ranges as ranges: `A3, F1-F14`.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (group, numbers)) in self.ranges.iter().enumerate() {
            let (first, last) = (numbers.start(), numbers.end());
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{group}{first}")?;
            if first != last {
                write!(f, "-{group}{last}")?;
            }
        }
        write!(f, ": {}", self.why)
    }
}

impl Serialize for LeftOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("LeftOut", 2)?;
        fields.serialize_field("why", self.why)?;
        fields.serialize_field("rows", &self.rows().collect::<Vec<_>>())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_as_ranges_and_written_one_by_one() {
        let left = LeftOut {
            why: "x",
            ranges: &[('A', 3..=3), ('D', 14..=16)],
        };
        assert_eq!(left.to_string(), "A3, D14-D16: x");
        assert_eq!(
            serde_json::to_string(&left).unwrap(),
            r#"{"why":"x","rows":["A3","D14","D15","D16"]}"#
        );
    }
}
