//! One configuration of a plans file, with what it inherits.

use serde_json::{Map, Value};

/// A configuration with all keys of those it inherits from. The error says what stands against it.
pub(super) fn configuration(plans: &Value, name: &str) -> Result<Map<String, Value>, String> {
    let all = plans.get("configurations").and_then(Value::as_object);
    let all = all.ok_or("plans.json has no configurations: these are no plans of nnU-Net v2")?;
    let mut chain = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        let one = all.get(name).and_then(Value::as_object).ok_or_else(|| {
            let known: Vec<&str> = all.keys().map(String::as_str).collect();
            format!(
                "plans.json has no configuration \"{name}\"; it has {}",
                known.join(", ")
            )
        })?;
        if chain.len() >= all.len() {
            return Err(format!("the configuration \"{name}\" inherits from itself"));
        }
        chain.push(one);
        next = one.get("inherits_from").and_then(Value::as_str);
    }
    let mut merged = Map::new();
    for one in chain.into_iter().rev() {
        merged.extend(one.clone());
    }
    if merged.get("previous_stage").is_some_and(|v| !v.is_null()) {
        return Err(format!(
            "the configuration \"{name}\" is the second half of a cascade, which is not known; import 3d_fullres or \
             3d_lowres"
        ));
    }
    if merged
        .get("patch_size")
        .and_then(Value::as_array)
        .is_some_and(|p| p.len() == 2)
    {
        return Err(format!(
            "the configuration \"{name}\" is two-dimensional; only 3-D networks are known"
        ));
    }
    Ok(merged)
}
