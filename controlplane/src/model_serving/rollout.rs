//! How pods may be replaced: numbers and shares of groups or of a role's replicas.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::{ModelServingSpec, RecoveryPolicy, RollingUpdate, RolloutStrategy, RolloutType};
use crate::problem::{At, Problems, SPEC};

pub(super) fn check(problems: &mut Problems, spec: &ModelServingSpec) {
    let at = SPEC.field("rolloutStrategy");
    let RolloutStrategy { kind, rolling_update_configuration } = spec.rollout_strategy.clone().unwrap_or_default();
    let at = at.field("rollingUpdateConfiguration");
    match (kind, rolling_update_configuration) {
        (_, None) => {}
        (RolloutType::RoleRollingUpdate, Some(_)) => problems.add(
            &at,
            "with RoleRollingUpdate set maxUnavailable and partition on each role, not rollingUpdateConfiguration",
        ),
        (RolloutType::ServingGroupRollingUpdate, Some(RollingUpdate { max_unavailable, partition })) => {
            if let Some(groups) = resolve(problems, &at.field("maxUnavailable"), &max_unavailable, spec.replicas) {
                let sentence =
                    "comes to 0 groups, so that nothing could ever be replaced: use a number above 0 or a larger share";
                problems.require(groups > 0 || spec.replicas == 0, &at.field("maxUnavailable"), sentence);
            }
            if let Some(partition) = partition {
                resolve(problems, &at.field("partition"), &partition, spec.replicas);
            }
        }
    }
    if spec.recovery_policy == RecoveryPolicy::ServingGroupRecreate && kind == RolloutType::RoleRollingUpdate {
        let sentence = "ServingGroupRecreate does not go with RoleRollingUpdate: use recoveryPolicy RoleRecreate, or \
                        rolloutStrategy.type ServingGroupRollingUpdate";
        problems.add(&SPEC.field("recoveryPolicy"), sentence);
    }
    roles(problems, spec, kind);
}

fn roles(problems: &mut Problems, spec: &ModelServingSpec, kind: RolloutType) {
    let template_at = SPEC.field("template");
    let roles_at = template_at.field("roles");
    for (i, role) in spec.template.roles.iter().enumerate() {
        let at = roles_at.item(i);
        if kind != RolloutType::RoleRollingUpdate {
            let sentence = "is for rolloutStrategy.type RoleRollingUpdate: set that, or remove partition";
            problems.require(role.partition.is_none(), &at.field("partition"), sentence);
            continue;
        }
        let unavailable_at = at.field("maxUnavailable");
        if let Some(replicas) = resolve(problems, &unavailable_at, &role.max_unavailable, role.replicas) {
            let sentence = format!("comes to {replicas}: it must be 1 to the role's {} replicas", role.replicas);
            problems.require(
                (1..=role.replicas.max(1)).contains(&replicas) || role.replicas == 0,
                &unavailable_at,
                sentence,
            );
        }
        if let Some(partition) = &role.partition {
            resolve(problems, &at.field("partition"), partition, role.replicas);
        }
    }
}

/// The number that is meant, shares of `total` rounded down; none, and a problem, where it is neither.
fn resolve(problems: &mut Problems, at: &At<'_>, wanted: &IntOrString, total: i32) -> Option<i32> {
    let resolved = match wanted {
        IntOrString::Int(number) => Some(*number).filter(|number| *number >= 0),
        IntOrString::String(text) => (text.strip_suffix('%'))
            // A number in Rust may have a sign, a share may not.
            .filter(|share| share.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|share| share.parse::<u8>().ok())
            .filter(|share| *share <= 100)
            .map(|share| (i64::from(total) * i64::from(share) / 100) as i32),
    };
    problems.require(resolved.is_some(), at, "must be a number of 0 or more, or a share from 0% to 100%");
    resolved
}
