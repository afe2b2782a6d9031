"""Opens, checks and reads shards: `reader` (`ShardSource`), and the checks and codecs of a single file."""
