//! Two roles held in proportion: whether any numbers within the bounds can satisfy it.

use std::collections::BTreeMap;

use crate::crd::{RatioConstraint, RoleTarget};
use crate::problem::{At, Problems};

pub(super) fn check(
    problems: &mut Problems,
    at: &At<'_>,
    constraint: &RatioConstraint,
    roles: &BTreeMap<String, RoleTarget>,
) {
    let RatioConstraint { numerator_role, denominator_role, min_ratio, max_ratio } = constraint;
    let differ = numerator_role != denominator_role;
    problems.require(differ, at, "numeratorRole and denominatorRole must differ");
    for (name, role) in [("numeratorRole", numerator_role), ("denominatorRole", denominator_role)] {
        let sentence = format!("there is no role {role:?} among roles: name one of them");
        problems.require(roles.contains_key(role), &at.field(name), sentence);
    }
    let min = min_ratio.value().filter(|ratio| ratio.is_finite() && *ratio >= 0.0);
    let max = max_ratio.value().filter(|ratio| ratio.is_finite() && *ratio > 0.0);
    problems.require(min.is_some(), &at.field("minRatio"), "must be a finite number of 0 or more");
    problems.require(max.is_some(), &at.field("maxRatio"), "must be a finite number above 0");
    if let (Some(min), Some(max), Some(numerator), Some(denominator)) =
        (min, max, roles.get(numerator_role), roles.get(denominator_role))
        && differ
    {
        problems.require(min <= max, &at.field("minRatio"), "minRatio must not be above maxRatio");
        achievable(problems, at, (numerator, denominator), (min, max));
    }
}

fn achievable(
    problems: &mut Problems,
    at: &At<'_>,
    (numerator, denominator): (&RoleTarget, &RoleTarget),
    (min, max): (f64, f64),
) {
    let zero = |role: &RoleTarget| role.min_replicas == 0;
    let sentence = "both roles must have minReplicas 0, or neither: one alone cannot keep the ratio";
    problems.require(zero(numerator) == zero(denominator), at, sentence);
    let ratio = |above: i32, below: i32| f64::from(above) / f64::from(below);
    let least = (denominator.max_replicas > 0).then(|| ratio(numerator.min_replicas, denominator.max_replicas));
    if let Some(least) = least.filter(|least| *least > max) {
        let sentence = format!(
            "cannot be reached: with these bounds the ratio is never below {least}; raise maxRatio or the denominator's maxReplicas"
        );
        problems.add(&at.field("maxRatio"), sentence);
    }
    let most = (denominator.min_replicas > 0).then(|| ratio(numerator.max_replicas, denominator.min_replicas));
    if let Some(most) = most.filter(|most| *most < min) {
        let sentence = format!(
            "cannot be reached: with these bounds the ratio is never above {most}; lower minRatio or raise the numerator's maxReplicas"
        );
        problems.add(&at.field("minRatio"), sentence);
    }
}
