//! What a manifest says, compared with what it should.

use super::Issue;
use crate::manifest::Manifest;

pub(super) fn issues(manifest: &Manifest, vnode_count: u16) -> Vec<Issue> {
    let mut issues = Vec::new();
    if manifest.epoch() == 0 {
        issues.push(Issue::ZeroEpoch);
    }
    if manifest.timestamp_ms() == 0 {
        issues.push(Issue::NoTimestamp);
    }
    let found = manifest.vnode_count();
    if found == 0 || found != vnode_count {
        issues.push(Issue::VnodeCount { found, expected: vnode_count });
    }
    let status = manifest.sink_status();
    let without = manifest.sink_epochs().keys().filter(|sink| !status.is_empty() && !status.contains_key(*sink));
    issues.extend(without.map(|sink| Issue::SinkWithoutStatus(sink.clone().into())));
    let sources = &manifest.content.source_names;
    let unknown = manifest.source_offsets().keys().filter(|name| !sources.is_empty() && !sources.contains_key(*name));
    issues.extend(unknown.map(|name| Issue::UnknownSource(name.clone().into())));
    if is_incremental(manifest) && manifest.parent().is_none() {
        issues.push(Issue::IncrementalWithoutParent);
    }
    issues
}

/// Whether a partition has deltas that go on from what another checkpoint has.
pub(crate) fn is_incremental(manifest: &Manifest) -> bool {
    let mut partitions = manifest.operators().values().flat_map(|operator| operator.partitions.values());
    partitions.any(|partition| partition.snapshot.is_none() && !partition.deltas.is_empty())
}
