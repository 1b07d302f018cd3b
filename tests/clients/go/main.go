// The Go client of the matrix: net/http as it is. `client plain|stream BASE`.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
)

type answer struct {
	Choices []struct {
		Message struct{ Content string }
		Delta   struct{ Content string }
	}
}

func main() {
	wanted, base := os.Args[1], os.Args[2]
	if base == "-" {
		base = os.Getenv("OPENAI_BASE_URL")
	}
	parts, err := ask(base, wanted == "stream")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	told, _ := json.Marshal(map[string]any{
		"version": strings.TrimPrefix(runtime.Version(), "go"), "pieces": len(parts), "text": strings.Join(parts, ""),
	})
	fmt.Println(string(told))
}

func ask(base string, streams bool) ([]string, error) {
	question := fmt.Sprintf(`{"model":"test/small","max_tokens":200,"stream":%t,`+
		`"messages":[{"role":"user","content":"ASSAY-TOKENS: 40"}]}`, streams)
	request, err := http.NewRequest("POST", base+"/chat/completions", strings.NewReader(question))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OPENAI_API_KEY"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	if !streams {
		var whole answer
		if err := json.NewDecoder(response.Body).Decode(&whole); err != nil {
			return nil, err
		}
		return []string{whole.Choices[0].Message.Content}, nil
	}
	return pieces(bufio.NewScanner(response.Body))
}

func pieces(lines *bufio.Scanner) (parts []string, err error) {
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "data: ") || line == "data: [DONE]" {
			continue
		}
		var event answer
		if err := json.Unmarshal([]byte(line[6:]), &event); err != nil {
			return nil, err
		}
		for _, choice := range event.Choices {
			if choice.Delta.Content != "" {
				parts = append(parts, choice.Delta.Content)
			}
		}
	}
	return parts, lines.Err()
}
