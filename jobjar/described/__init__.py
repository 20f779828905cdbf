"""Take described jobs through their stages: stage in, run, poll, stage out, store. A worker does several at once."""
