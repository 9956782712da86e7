// Command gocalls is the Go client in benchmarks/attacks.py: it calls the servers that it is told on its standard input, one
// after another ("infer URL", or "metadata URL"), and says in a line what came of each.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	graphpipe "github.com/graphpipe/graphpipe/clients/go"
)

func call(what, url string) error {
	client, err := graphpipe.New(url, graphpipe.WithTimeout(5*time.Second), graphpipe.WithAnswerBytesMax(64<<20))
	if err != nil {
		return err
	}
	defer client.Close()
	if what == "metadata" {
		_, err = client.Metadata(context.Background())
		return err
	}
	_, err = client.Execute(context.Background(), graphpipe.FromSlice(make([]float32, 6), 2, 3))
	return err
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		what, url, found := strings.Cut(lines.Text(), " ")
		if !found {
			log.Fatalf("%q names no server", lines.Text())
		}
		err := call(what, url)
		var said *graphpipe.Error
		switch {
		case err == nil:
			fmt.Println("answered")
		case errors.As(err, &said):
			fmt.Println("refused: an error of the server")
		default:
			fmt.Println("refused: no answer")
		}
	}
}
