import java.io.File;
import java.io.PrintStream;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.List;

/** RocketMQ's own store and broker behind the command line in README.md. */
public final class Main {
  /** The real standard output: what the libraries print goes to standard error. */
  static final PrintStream out = System.out;

  private static List<String> words;

  private Main() {}

  public static void main(String[] arguments) {
    System.setOut(System.err);
    try {
      run(arguments);
    } catch (Exception failure) {
      failure.printStackTrace();
      // The libraries' threads would keep it alive.
      Runtime.getRuntime().halt(1);
    }
  }

  private static void run(String[] arguments) throws Exception {
    words = Arrays.asList(arguments);
    File directory = new File(words.get(1));
    switch (words.get(0)) {
      case "write":
        Files.createDirectories(directory.toPath());
        switch (words.get(2)) {
          case "records" -> Records.write(directory);
          case "broker" -> BrokerScene.write(directory);
          default -> throw new IllegalArgumentException("write DIR records or write DIR broker");
        }
        break;
      case "append": Records.append(directory); break;
      case "read": Reader.read(directory); break;
      case "bench": Bench.run(directory, words.get(2)); break;
      case "serve": BrokerScene.serve(directory); break;
      default: throw new IllegalArgumentException("write, append, read, serve or bench");
    }
    out.flush();
    // Threads of the libraries must not keep it alive. Killed: no shutdown hook runs, `abort` stays.
    if (flag("--kill")) {
      Runtime.getRuntime().halt(0);
    }
    System.exit(0);
  }

  static boolean flag(String name) {
    return words.contains(name);
  }

  static int number(String name, int fallback) {
    int at = words.indexOf(name);
    return at < 0 ? fallback : Integer.parseInt(words.get(at + 1));
  }

  static String text(String name, String fallback) {
    int at = words.indexOf(name);
    return at < 0 ? fallback : words.get(at + 1);
  }
}
