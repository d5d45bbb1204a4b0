import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** One JSON object a line on standard output, and nothing else there. */
final class Lines {
  private final Map<String, Object> fields = new LinkedHashMap<>();

  static Lines line(String kind) {
    return new Lines().with("kind", kind);
  }

  Lines with(String name, Object value) {
    fields.put(name, value);
    return this;
  }

  void print() {
    StringBuilder out = new StringBuilder();
    write(out, fields);
    Main.out.println(out);
  }

  private static void write(StringBuilder out, Object value) {
    if (value instanceof Map<?, ?> map) {
      out.append('{');
      String between = "";
      for (Map.Entry<?, ?> entry : (map instanceof LinkedHashMap ? map : new TreeMap<>(map)).entrySet()) {
        out.append(between);
        text(out, entry.getKey().toString());
        out.append(':');
        write(out, entry.getValue());
        between = ",";
      }
      out.append('}');
    } else if (value instanceof Collection<?> items) {
      out.append('[');
      String between = "";
      for (Object item : items) {
        out.append(between);
        write(out, item);
        between = ",";
      }
      out.append(']');
    } else if (value instanceof Number || value instanceof Boolean || value == null) {
      out.append(value);
    } else {
      text(out, value.toString());
    }
  }

  private static void text(StringBuilder out, String text) {
    out.append('"');
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c < ' ' || c > '~') {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    out.append('"');
  }
}
