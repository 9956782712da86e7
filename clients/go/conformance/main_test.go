package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/graphpipe/graphpipe/clients/go"
)

func first(_ context.Context, _ string, inputs []graphpipe.Tensor) ([]graphpipe.Tensor, error) {
	return inputs[:1], nil
}

func answers(t *testing.T, cases ...string) []map[string]json.RawMessage {
	t.Helper()
	var out strings.Builder
	if err := run(strings.NewReader(strings.Join(cases, "\n")), &out); err != nil {
		t.Fatal(err)
	}
	var all []map[string]json.RawMessage
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var one map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	if len(all) != len(cases) {
		t.Fatalf("%d answers to %d cases", len(all), len(cases))
	}
	return all
}

func TestEachValueIsEncodedAndDecodedBack(t *testing.T) {
	for _, c := range []struct{ message, value string }{
		{"request", `{"type":"metadata"}`},
		{"request", `{"type":"infer","config":"c","input_names":["a",""],"inputs":[{"type":"float32","shape":["1"],"data":"AACAPw=="},{"type":"uint8","shape":["0","3"],"data":""}],"output_names":["y"]}`},
		{"request", `{"type":"infer","config":"","input_names":[],"inputs":[{"type":"string","shape":["2"],"strings":["AP8=",""]}],"output_names":[]}`},
		{"infer_response", `{"outputs":[{"type":"int64","shape":[],"data":"AAAAAAAAAIA="}],"errors":[]}`},
		{"infer_response", `{"outputs":[],"errors":[{"code":"9007199254740993","message":"m"},{"code":"-9223372036854775808","message":""}]}`},
		{"metadata_response", `{"name":"n","version":"v","server":"s","description":"d","inputs":[{"name":"x","description":"","shape":["-1","9007199254740993"],"type":"float16"}],"outputs":[{"name":"y","description":"","shape":[],"type":"null"}]}`},
	} {
		encoded := answers(t, fmt.Sprintf(`{"id":"1","op":"encode","message":%q,"value":%s}`, c.message, c.value))[0]
		if string(encoded["ok"]) != "true" {
			t.Fatalf("%s: %s", c.value, encoded)
		}
		decoded := answers(t, fmt.Sprintf(`{"id":"2","op":"decode","message":%q,"bytes":%s}`, c.message, encoded["bytes"]))[0]
		if string(decoded["value"]) != c.value || string(decoded["id"]) != `"2"` {
			t.Errorf("%s\ncame back as\n%s", c.value, decoded["value"])
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	all := answers(t,
		`{"id":"a","op":"decode","message":"request","bytes":"AAAA"}`,
		`{"id":"b","op":"encode","message":"request","value":{"type":"infer","inputs":[{"type":"float32","shape":["2"],"data":"AAAA"}]}}`,
		`{"id":"c","op":"call","url":"http://127.0.0.1:1","value":{"type":"infer"},"timeout_ms":1000}`,
	)
	for i, want := range []string{`"malformed"`, `"invalid"`, `"no_answer"`} {
		if string(all[i]["error"]) != want || string(all[i]["ok"]) != "false" {
			t.Errorf("got %s, want %s", all[i], want)
		}
	}
}

func TestCallsReachAServer(t *testing.T) {
	server := httptest.NewServer(graphpipe.Handler(graphpipe.Function(
		graphpipe.Metadata{Name: "first", Inputs: []graphpipe.TensorSpec{{Name: "x"}}, Outputs: []graphpipe.TensorSpec{{Name: "y"}}}, first)))
	defer server.Close()
	all := answers(t,
		fmt.Sprintf(`{"id":"a","op":"call","url":%q,"value":{"type":"infer","inputs":[{"type":"uint8","shape":["1"],"data":"Bw=="}]},"timeout_ms":5000}`, server.URL),
		fmt.Sprintf(`{"id":"b","op":"call","url":%q,"value":{"type":"infer"}}`, server.URL),
		fmt.Sprintf(`{"id":"c","op":"metadata","url":%q}`, server.URL),
		fmt.Sprintf(`{"id":"d","op":"loops","url":%q,"values":[%s,%s],"calls":20}`, server.URL, one(7), one(8)),
		`{"id":"e","op":"loops","url":"http://127.0.0.1:1","values":[{"type":"infer"}],"calls":1}`,
	)
	if got := string(all[3]["values"]); got != "["+answerOf(7)+","+answerOf(8)+"]" {
		t.Error(got)
	}
	if string(all[4]["error"]) != `"no_answer"` {
		t.Errorf("%s", all[4])
	}
	if got := string(all[0]["value"]); got != `{"outputs":[{"type":"uint8","shape":["1"],"data":"Bw=="}],"errors":[]}` {
		t.Error(got)
	}
	if string(all[1]["error"]) != `"server"` || string(all[1]["code"]) != `"2"` || string(all[1]["status"]) != "400" {
		t.Errorf("%s", all[1])
	}
	if !strings.HasPrefix(string(all[2]["value"]), `{"name":"first"`) {
		t.Errorf("%s", all[2])
	}
}

// one is a request with one byte; answerOf is what first makes of it.
func one(value byte) string {
	return fmt.Sprintf(`{"type":"infer","inputs":[%s]}`, tensorOf(value))
}

func answerOf(value byte) string {
	return fmt.Sprintf(`{"outputs":[%s],"errors":[]}`, tensorOf(value))
}

func tensorOf(value byte) string {
	return fmt.Sprintf(`{"type":"uint8","shape":["1"],"data":%q}`, base64.StdEncoding.EncodeToString([]byte{value}))
}

func TestItsOwnServerIsCalledLikeAnyOther(t *testing.T) {
	var url string
	if err := json.Unmarshal(answers(t, `{"id":"s","op":"serve"}`)[0]["url"], &url); err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{"": answerOf(7), "fail": `"4"`, "refuse": `"2"`} {
		request := strings.Replace(one(7), "{", fmt.Sprintf(`{"config":%q,`, config), 1)
		got := answers(t, fmt.Sprintf(`{"id":"c","op":"call","url":%q,"value":%s}`, url, request))[0]
		if string(got["value"]) != want && string(got["code"]) != want {
			t.Errorf("%s: %s", config, got)
		}
	}
}
