"""What every wing stands on: parameters, digests, durable files, progress, the resumable training loop."""
