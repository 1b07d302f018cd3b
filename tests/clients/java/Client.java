import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The Java client of the matrix: HttpClient as it is. {@code Client plain|stream BASE}. */
public class Client {
    private static final Pattern CONTENT = Pattern.compile("\"content\":\"([^\"\\\\]*)\"");

    public static void main(String[] arguments) throws Exception {
        boolean streams = arguments[0].equals("stream");
        String base = arguments[1].equals("-") ? System.getenv("OPENAI_BASE_URL") : arguments[1];
        String question = "{\"model\":\"test/small\",\"max_tokens\":200,\"stream\":" + streams
            + ",\"messages\":[{\"role\":\"user\",\"content\":\"ASSAY-TOKENS: 40\"}]}";
        HttpRequest request = HttpRequest.newBuilder(URI.create(base + "/chat/completions"))
            .header("Authorization", "Bearer " + System.getenv("OPENAI_API_KEY"))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(question))
            .build();
        var answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofLines());
        if (answer.statusCode() != 200) {
            throw new IllegalStateException("status " + answer.statusCode() + ": " + answer.body().collect(Collectors.joining()));
        }
        List<String> parts = answer.body().flatMap(Client::contents).collect(Collectors.toList());
        System.out.printf("{\"version\": \"%s\", \"pieces\": %d, \"text\": \"%s\"}%n",
            System.getProperty("java.version"), parts.size(), String.join("", parts));
    }

    private static Stream<String> contents(String line) {
        return CONTENT.matcher(line).results().map(found -> found.group(1));
    }
}
