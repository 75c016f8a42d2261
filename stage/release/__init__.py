"""Published samples: shards, tables, manifest, verification, export."""
