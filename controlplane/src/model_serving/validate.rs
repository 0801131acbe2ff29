//! What the schema's CEL rules say, and what CEL cannot say.

use super::{LABEL_PREFIX, PLUGINS, rollout};
use crate::crd::{GangPolicy, ModelServingSpec, PodTemplate, Role};
use crate::naming::is_dns_label;
use crate::problem::{At, Problem, Problems, SPEC};
use crate::valid::Valid;

/// Checks all of a ModelServing of this name.
pub fn validate(name: &str, spec: &ModelServingSpec) -> Result<Valid<ModelServingSpec>, Vec<Problem>> {
    let mut problems = Problems::default();
    let template_at = SPEC.field("template");
    let roles_at = template_at.field("roles");
    problems.require(spec.replicas >= 0, &SPEC.field("replicas"), "must be 0 or more");
    problems.require(!spec.template.roles.is_empty(), &roles_at, "must hold at least one role");
    problems.require(
        spec.template.restart_grace_period_seconds >= 0,
        &template_at.field("restartGracePeriodSeconds"),
        "must be 0 or more seconds",
    );
    for (i, wanted) in spec.template.roles.iter().enumerate() {
        pod_name(&mut problems, name, spec, wanted);
        role(&mut problems, &roles_at.item(i), wanted);
        let twice = spec.template.roles[..i].iter().any(|other| other.name == wanted.name);
        problems.require(!twice, &roles_at.item(i).field("name"), "roles name must be unique: give each role its own");
    }
    if let Some(gang) = &spec.template.gang_policy {
        gang_fits(&mut problems, &template_at.field("gangPolicy").field("minRoleReplicas"), gang, &spec.template.roles);
    }
    plugins(&mut problems, spec);
    rollout::check(&mut problems, spec);
    problems.or(Valid::new(spec.clone()))
}

/// What cannot be changed once it is set.
pub fn transition(old: &ModelServingSpec, new: &ModelServingSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    let template_at = SPEC.field("template");
    let at = template_at.field("gangPolicy");
    match (&old.template.gang_policy, &new.template.gang_policy) {
        (Some(_), None) => problems.add(&at, "gangPolicy is required once set: running groups were scheduled by it"),
        // Taking the map away is refused too: given back with other numbers, it is how Kthena's rule was got around.
        (Some(old), Some(new))
            if !old.min_role_replicas.is_empty() && old.min_role_replicas != new.min_role_replicas =>
        {
            let sentence = "minRoleReplicas is immutable: running groups were scheduled by it; create another ModelServing instead";
            problems.add(&at.field("minRoleReplicas"), sentence);
        }
        _ => {}
    }
    problems.into_vec()
}

/// The longest name that a pod of the role can get must still be a host name.
fn pod_name(problems: &mut Problems, name: &str, spec: &ModelServingSpec, role: &Role) {
    let longest = format!("{name}-{}-{}-{}-{}", spec.replicas, role.name, role.replicas, role.worker_replicas);
    let metadata = At::Field(&At::Root, "metadata");
    problems.require(
        name.is_empty() || is_dns_label(&longest),
        &metadata.field("name"),
        format!(
            "pods would be called {longest}, which is {} characters long; they must be lower-case letters, digits and '-', \
             begin with a letter, and have at most 63 characters: shorten the name or the role's",
            longest.len()
        ),
    );
}

fn role(problems: &mut Problems, at: &At<'_>, role: &Role) {
    let sentence = "a role name is part of pod names: use lower-case letters, digits and '-', beginning with a letter";
    problems.require(is_dns_label(&role.name), &at.field("name"), sentence);
    problems.require(role.replicas >= 0, &at.field("replicas"), "must be 0 or more");
    problems.require(role.worker_replicas >= 0, &at.field("workerReplicas"), "must be 0 or more");
    let sentence = "workerTemplate is required when workerReplicas is above 0";
    problems.require(
        role.worker_replicas <= 0 || role.worker_template.is_some(),
        &at.field("workerTemplate"),
        sentence,
    );
    template(problems, &at.field("entryTemplate"), &role.entry_template);
    if let Some(worker) = &role.worker_template {
        template(problems, &at.field("workerTemplate"), worker);
    }
}

fn template(problems: &mut Problems, at: &At<'_>, template: &PodTemplate) {
    let spec_at = at.field("spec");
    let containers_at = spec_at.field("containers");
    for (i, image) in template.spec.images() {
        let usable = image.is_empty() || !image.contains(char::is_whitespace);
        let sentence = format!("{image:?} is no image: write it without white space");
        problems.require(usable, &containers_at.item(i).field("image"), sentence);
    }
    let metadata_at = at.field("metadata");
    let labels_at = metadata_at.field("labels");
    for key in template.metadata.iter().flat_map(|metadata| metadata.labels.keys()) {
        let sentence = format!("labels beginning with {LABEL_PREFIX} are set by us and select pods: remove it");
        problems.require(!key.starts_with(LABEL_PREFIX), &labels_at.key(key), sentence);
    }
}

fn gang_fits(problems: &mut Problems, at: &At<'_>, gang: &GangPolicy, roles: &[Role]) {
    for (name, wanted) in &gang.min_role_replicas {
        let at = at.key(name);
        match roles.iter().find(|role| role.name == *name) {
            None => problems.add(&at, format!("there is no role {name}: name one of spec.template.roles")),
            Some(role) => {
                let sentence = format!("{wanted} is out of range: role {name} has {} replicas", role.replicas);
                problems.require((0..=role.replicas).contains(wanted), &at, sentence);
            }
        }
    }
}

fn plugins(problems: &mut Problems, spec: &ModelServingSpec) {
    let plugins_at = SPEC.field("plugins");
    for (i, plugin) in spec.plugins.iter().enumerate() {
        let at = plugins_at.item(i);
        let sentence = format!("there is no plugin {:?}: use one of {}", plugin.name, PLUGINS.join(", "));
        problems.require(PLUGINS.contains(&plugin.name.as_str()), &at.field("name"), sentence);
        let twice = spec.plugins[..i].iter().any(|other| other.name == plugin.name);
        problems.require(!twice, &at.field("name"), "is there twice: a plugin runs once, remove one of them");
        let scope_at = at.field("scope");
        let roles_at = scope_at.field("roles");
        for (k, name) in plugin.scope.iter().flat_map(|scope| &scope.roles).enumerate() {
            let known = spec.template.roles.iter().any(|role| role.name == *name);
            problems.require(
                known,
                &roles_at.item(k),
                format!("there is no role {name}: name one of spec.template.roles"),
            );
        }
    }
}
