"""What crosses between processes: topics, Avro schemas, examples and the codec. Imports nothing else of Placar."""
