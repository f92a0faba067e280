package placar.connect;

import io.apicurio.registry.resolver.DefaultSchemaResolver;
import io.apicurio.registry.resolver.SchemaLookupResult;
import io.apicurio.registry.resolver.data.Record;
import io.apicurio.registry.serde.data.KafkaSerdeMetadata;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericContainer;

/**
 * Finds the registered schema of a record by the identity of its Avro schema.
 *
 * <p>The resolver that it extends prints the schema of every record as JSON to look it up by content. The converter hands
 * over the same Avro schema object for as long as the table keeps its columns, so one lookup per object is enough. A
 * changed table brings a new object, which is resolved, and registered, as before.
 */
public class CachingSchemaResolver<S, T> extends DefaultSchemaResolver<S, T> {
    private static final int MOST_SCHEMAS = 1000; // of a topic; the converter's own cache holds as many

    private final Map<String, Map<Schema, SchemaLookupResult<S>>> resolved = new HashMap<>();

    @Override
    public synchronized SchemaLookupResult<S> resolveSchema(Record<T> record) {
        if (!(record.payload() instanceof GenericContainer) || !(record.metadata() instanceof KafkaSerdeMetadata)) {
            return super.resolveSchema(record);
        }
        Schema schema = ((GenericContainer) record.payload()).getSchema();
        String topic = ((KafkaSerdeMetadata) record.metadata()).getTopic();
        Map<Schema, SchemaLookupResult<S>> ofTopic = resolved.computeIfAbsent(topic, name -> new IdentityHashMap<>());
        SchemaLookupResult<S> known = ofTopic.get(schema);
        if (known == null) {
            known = super.resolveSchema(record);
            if (ofTopic.size() >= MOST_SCHEMAS) {
                ofTopic.clear();
            }
            ofTopic.put(schema, known);
        }
        return known;
    }

    @Override
    public synchronized void reset() {
        resolved.clear();
        super.reset();
    }
}
