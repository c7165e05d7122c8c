package admin

import (
	"time"

	"github.com/gatehouse-api/gatehouse/internal/ddos"
)

func (a *api) guard() (*ddos.Book, error) {
	if a.Guard == nil {
		return nil, unknown("guard")
	}
	return a.Guard, nil
}

func (a *api) getDDoS(c *call) (answer, error) {
	book, err := a.guard()
	if err != nil {
		return answer{}, err
	}
	at, err := book.Attack(c.Context())
	if err != nil {
		return answer{}, err
	}
	list, err := book.Bans(c.Context())
	if err != nil {
		return answer{}, err
	}
	out := struct {
		Attack ddos.Attack  `json:"attack"`
		Total  int          `json:"total"`
		Bans   []ddos.Entry `json:"bans"` // the youngest thousand
	}{at, len(list), list[:min(len(list), maxPage)]}
	return answer{body: out}, nil
}

func (a *api) switchAttack(c *call) (answer, error) {
	var in struct {
		On   bool  `json:"on"`
		Life int64 `json:"life"`
	}
	book, err := a.guard()
	if err == nil {
		err = c.read(&in)
	}
	if err == nil {
		err = book.SwitchAttack(c.Context(), c.actor, in.On, seconds(in.Life))
	}
	return answer{}, err
}

func (a *api) createBan(c *call) (answer, error) {
	var in struct {
		Network string `json:"network"`
		Reason  string `json:"reason"`
		Life    int64  `json:"life"`
	}
	book, err := a.guard()
	if err == nil {
		err = c.read(&in)
	}
	if err != nil {
		return answer{}, err
	}
	p, err := ddos.ParsePrefix(in.Network)
	if err == nil {
		err = book.Ban(c.Context(), c.actor, p, in.Reason, seconds(in.Life))
	}
	return answer{}, err
}

func (a *api) deleteBan(c *call) (answer, error) {
	book, err := a.guard()
	if err != nil {
		return answer{}, err
	}
	p, err := ddos.ParsePrefix(c.URL.Query().Get("network"))
	if err == nil {
		err = book.Unban(c.Context(), c.actor, p)
	}
	return answer{}, err
}

// seconds bounds what a body says to ten years.
func seconds(n int64) time.Duration {
	const most = 10 * 366 * 24 * 60 * 60
	return time.Duration(min(max(n, 0), most)) * time.Second
}
